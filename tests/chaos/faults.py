"""What can happen, each as a function that does it once and tells after how many seconds all was well again."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import psutil
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from db import queries
from tests.chaos.crash_points import OF_FLEETS, OF_PRODUCERS, OF_WORKERS, demand
from tests.chaos.null_engine import HANG, POISON
from tests.chaos.site import Host, Site, thaw
from tests.freezing import freeze

Inject = Callable[[Site, random.Random, int], float | None]
"""Does it to a batch that is being made; None where there was nothing to recover from."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A kind of fault. ``times`` it is injected in a whole run, ``at_once`` of them into one batch of ``jobs``."""

    name: str
    inject: Inject
    times: int
    at_once: int = 5
    jobs: int = 300
    #: Seconds between two of them, at most.
    pause: float = 1.0
    hosts: int = 1
    #: Whether a process is killed.
    kills: bool = False
    #: Whether it must cost no job an attempt.
    free: bool = False
    #: Rows of the prompt file that are not ordinary.
    odd: tuple[str, ...] = ()
    #: How many of the jobs must fail, and not succeed.
    failing: int = 0
    #: Starts after which a job is given up. Kills at random hit a job that is made again as likely as any other.
    attempts: int = 10
    #: Whether a producer is hit, and so there is no batch yet.
    of_producer: bool = False
    #: What was waited for.
    until: str = "the next image"


def worker_killed(site: Site, rng: random.Random, _batch_id: int) -> float | None:
    if not (workers := site.hosts[0].workers()):
        return None
    name, victim = rng.choice(list(workers.items()))
    with suppress(psutil.NoSuchProcess):
        victim.kill()
    return _until_put_back(site, [name])


def parent_killed(site: Site, _rng: random.Random, batch_id: int) -> float:
    """Its supervisor starts another, whose workers go on while those of the dead one end."""
    process = site.hosts[0].process
    assert process
    process.kill()
    process.wait()
    return site.until_next(batch_id)


def host_killed(site: Site, rng: random.Random, batch_id: int) -> float | None:
    host = rng.choice(site.hosts)
    _await_workers(site, host, batch_id)
    names = list(host.workers())
    host.kill()
    try:
        return _until_put_back(site, names)
    finally:
        host.start()


def server_killed(site: Site, _rng: random.Random, batch_id: int, *, with_file: bool) -> float:
    site.server.restart(with_file=with_file)
    return site.until_next(batch_id)


def queue_flushed(site: Site, _rng: random.Random, batch_id: int) -> float:
    site.server.flush()
    return site.until_next(batch_id)


def server_frozen(site: Site, rng: random.Random, batch_id: int) -> float:
    with site.server.frozen():
        time.sleep(_first(site, "frozen", 60.0) or rng.uniform(1, 12))
    return site.until_next(batch_id)


def server_full(site: Site, rng: random.Random, batch_id: int) -> float:
    with site.server.full():
        time.sleep(rng.uniform(0.5, 4))
    return site.until_next(batch_id)


def server_unable_to_save(site: Site, rng: random.Random, batch_id: int) -> float:
    with site.server.unable_to_save():
        time.sleep(rng.uniform(0.5, 4))
    return site.until_next(batch_id)


def messages_repeated(site: Site, _rng: random.Random, _batch_id: int, *, times: int) -> None:
    site.server.double(times)


def worker_frozen(site: Site, rng: random.Random, batch_id: int) -> float | None:
    """Until another has its jobs; then it goes on, and its results are late."""
    _await_workers(site, site.hosts[0], batch_id)
    name, victim = rng.choice(list(site.hosts[0].workers().items()))
    _freeze_between_transactions(site, victim)
    try:
        return _until_put_back(site, [name])
    finally:
        thaw(victim)


def disk_full(site: Site, rng: random.Random, batch_id: int) -> float:
    rest = site.images / "rest"
    try:
        with suppress(OSError), rest.open("wb", buffering=0) as file:
            while file.write(bytes(2**20)) == 2**20:
                pass
        time.sleep(rng.uniform(1, 6))
    finally:
        rest.unlink()
    return site.until_next(batch_id)


def ledger_locked(site: Site, rng: random.Random, batch_id: int) -> float:
    with _locked(site):
        time.sleep(_first(site, "locked", 30.0) or rng.uniform(0.5, 5))
    return site.until_next(batch_id)


def clock_stepped(site: Site, rng: random.Random, batch_id: int) -> float:
    site.step_clock(rng.choice((-1, 1)) * rng.choice((60.0, 3600.0, 86_400.0)))
    time.sleep(1)
    took = site.until_next(batch_id)
    site.step_clock(0)
    return took


def nothing(_site: Site, _rng: random.Random, _batch_id: int) -> None:
    """The prompts do it."""


def crash(site: Site, rng: random.Random, batch_id: int, *, point: str) -> float | None:
    """The next process to pass the point dies there, and what makes one pass it is seen to."""
    workers = site.hosts[0].workers()
    order = demand(site.orders, point)
    try:
        if point in OF_FLEETS and workers:
            rng.choice(list(workers.values())).kill()
        if point == "put back" and workers:
            rng.choice(list(workers.values())).terminate()
        if point == "audited":
            site.server.flush()
        site.wait(lambda: not order.exists() or not site.open_jobs(batch_id))
    finally:
        order.unlink(missing_ok=True)
    return _until_put_back(site, sorted(workers.keys() - site.hosts[0].workers().keys()))


def producer_crash(site: Site, _rng: random.Random, _batch_id: int, *, point: str) -> None:
    """`promptmill submit` dies: either nothing will be made, or all."""
    demand(site.orders, point)
    assert site.call("submit", str(site.write(100)), "--width", "64", "--height", "64") == -9, site.last_words()


def producer_killed(site: Site, rng: random.Random, _batch_id: int) -> None:
    process = site.promptmill("submit", str(site.write(2000)), "--width", "64", "--height", "64")
    time.sleep(rng.uniform(0.2, 1.6))
    process.kill()
    process.wait()


def _until_put_back(site: Site, names: list[str]) -> float | None:
    """Wait until none of a worker's jobs is left running; None when there was none."""
    began, engine = time.monotonic(), site.ledger.engine
    had = [name for name in names if queries.running_claims(engine, name)]
    site.wait(lambda: not any(queries.running_claims(engine, name) for name in had), pause=0.02)
    return time.monotonic() - began if had else None


def _await_workers(site: Site, host: Host, batch_id: int) -> None:
    """Wait until some worker of the host makes something."""
    engine = site.ledger.engine

    def busy() -> bool:
        return any(queries.running_claims(engine, name) for name in host.workers())

    site.wait(lambda: busy() or not site.open_jobs(batch_id))


def _freeze_between_transactions(site: Site, victim: psutil.Process) -> None:
    """SQLite's lock, held by a frozen process, would stop everybody."""
    while True:
        with suppress(ProcessLookupError):
            freeze(victim.pid)
        with suppress(OperationalError), _locked(site, patience=0.5):
            return
        thaw(victim)
        time.sleep(0.05)


@contextmanager
def _locked(site: Site, patience: float = 30.0) -> Iterator[None]:
    """Nobody else writes to the ledger."""
    engine = site.ledger.engine
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        else:
            connection.execute(text("LOCK TABLE job, image IN EXCLUSIVE MODE"))
        connection.execute(text("UPDATE job SET fence = fence WHERE id = 0"))
        yield
        connection.rollback()


def _first(site: Site, what: str, seconds: float) -> float:
    """The long one, which a whole run has once; 0 the other times."""
    mark = site.folder / f"{what}-once"
    if site.hurried or mark.exists():
        return 0.0
    mark.touch()
    return seconds


#: What is waited for after a death.
PUT_BACK = "its jobs are sent again"


def _crash(point: str) -> Fault:
    inject = partial(crash, point=point)
    return Fault(name=f"killed when {point}", inject=inject, times=20, at_once=10, kills=True, until=PUT_BACK)


def _producer_crash(point: str) -> Fault:
    return Fault(
        name=f"submit killed when {point}", inject=partial(producer_crash, point=point), times=10, at_once=2,
        kills=True, of_producer=True,
    )  # fmt: skip


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="worker killed", inject=worker_killed, times=620, at_once=40, jobs=600, pause=0.8, kills=True,
        until=PUT_BACK,
    ),
    Fault(name="parent of the workers killed", inject=parent_killed, times=40, pause=2.0, kills=True),
    Fault(name="host lost", inject=host_killed, times=8, at_once=2, hosts=2, kills=True, until=PUT_BACK),
    *(_crash(point) for point in (*OF_WORKERS, *OF_FLEETS)),
    *(_producer_crash(point) for point in OF_PRODUCERS),
    Fault(name="submit killed at any time", inject=producer_killed, times=40, at_once=2, kills=True, of_producer=True),
    Fault(
        name="a job that kills its worker", inject=nothing, times=12, at_once=1, odd=(POISON,), failing=1, attempts=3,
    ),
    Fault(name="a job that hangs", inject=nothing, times=1, at_once=1, jobs=100, odd=(HANG,)),
    Fault(name="server killed, its file kept", inject=partial(server_killed, with_file=True), times=60, free=True),
    Fault(name="server killed, its file lost", inject=partial(server_killed, with_file=False), times=60, free=True),
    Fault(name="FLUSHALL", inject=queue_flushed, times=60, free=True),
    Fault(name="server frozen, once for 60 s", inject=server_frozen, times=12, at_once=4, free=True),
    Fault(name="server's memory full", inject=server_full, times=30, free=True),
    Fault(name="server refuses writes (MISCONF)", inject=server_unable_to_save, times=30, free=True),
    Fault(name="every message delivered twice", inject=partial(messages_repeated, times=1), times=100, free=True),
    Fault(name="every message delivered thrice", inject=partial(messages_repeated, times=2), times=100, free=True),
    Fault(name="worker frozen beyond its lease", inject=worker_frozen, times=10, at_once=2, until=PUT_BACK),
    Fault(name="disk of the images full", inject=disk_full, times=30, free=True),
    Fault(name="ledger locked, once for 30 s", inject=ledger_locked, times=30, free=True),
    Fault(name="clock stepped, up to a day", inject=clock_stepped, times=40),
)  # fmt: skip
BY_NAME = {fault.name: fault for fault in FAULTS}
