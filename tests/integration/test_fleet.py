"""A fleet of real worker processes on a real queue: deaths, hangs and growth cost neither images nor innocents."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from configs.celeryconfig import create_app
from configs.settings import Settings
from db import outbox, queries
from db.black_box import box_folder
from db.ledger import Ledger, NewBatch
from db.models import JobState
from db.search import Query, find
from producer.errors import WorkerKeepsDying
from producer.fleet import Fleet
from producer.queue import Queue
from producer.slots import Slot
from producer.worker_process import Site
from tests import preloaded
from tests.conftest import on_valkey
from tests.db.conftest import job
from tests.worker.conftest import checkpoint_folder  # noqa: F401 - fixture

pytestmark = [pytest.mark.slow, on_valkey]

#: A worker that does something else with the sample of seed 5; the first one does when `flag` is set.
ODD = """
import os, signal, sys, time
from pathlib import Path
from worker.__main__ import main
from worker.renderer import Renderer

step = Renderer.step

def odd(self, flights):
    if any(flight.sample.seed == 5 for flight in flights):
        {odd}
    step(self, flights)

Renderer.step = odd
main()
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
HUNG = """
        flag = Path(os.environ["PROMPTMILL_HOME"], "hung")
        if not flag.exists():
            flag.touch()
            time.sleep(600)
"""
Make = Callable[..., Fleet]


@pytest.fixture
def jobs(home_ledger: Ledger, broker: str, checkpoint_folder: Path) -> Callable[..., Ledger]:  # noqa: F811
    """Records and sends a batch of so many small jobs, with their number as seed."""

    def submit(count: int, **values: Any) -> Ledger:
        new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=count)
        batch_id = home_ledger.create_batch(new)
        small = {"model": str(checkpoint_folder), "steps": 8, "width": 32, "height": 32, **values}
        home_ledger.add_jobs([job(batch_id, chunk=i // 16, seed=i, **small) for i in range(count)])
        home_ledger.open_batch(batch_id)
        outbox.send_batch(create_app(broker), home_ledger.engine, batch_id)
        return home_ledger

    return submit


@pytest.fixture
def make(home_ledger: Ledger, broker: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes fleets of so many workers on the CPU, with these settings and, if given, this program."""

    def fleet(count: int, program: str | None = None, *, copies: bool = True, **changes: Any) -> Fleet:
        if copies:
            monkeypatch.setattr("producer.worker_process.start_child", preloaded.start_child)
        if program:
            monkeypatch.setattr("producer.worker_process.PROGRAM", (sys.executable, "-c", program))
        for name, value in changes.items():
            monkeypatch.setenv(f"PROMPTMILL_{name.upper()}", str(value))
        settings = msgspec.structs.replace(Settings(home=home), **changes)
        site = Site(settings=settings, ledger=home_ledger, queue=Queue(broker), log=home / "logs" / "worker.log")
        return Fleet(site, [Slot(f"cpu{number}", "cpu") for number in range(count)])

    yield fleet
    if (log := home / "logs" / "worker.log").exists():
        print(log.read_text())


def tend(fleet: Fleet, condition: Callable[[], object], seconds: float = 200) -> None:
    """Look after the fleet until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        fleet.check()
        time.sleep(0.1)


def rows(ledger: Ledger) -> list[Any]:
    return list(find(ledger.engine, Query(), limit=1000))


def count(ledger: Ledger, *states: JobState) -> int:
    counts = queries.counts(ledger.engine, 1)
    return sum(counts[state] for state in states)


def is_done(ledger: Ledger) -> bool:
    return not count(ledger, JobState.QUEUED, JobState.RUNNING)


def test_a_job_that_kills_its_worker_takes_no_innocent_with_it(jobs: Any, make: Make) -> None:
    ledger = jobs(41)
    with make(1, ODD.format(odd=KILLED)) as fleet:
        tend(fleet, lambda: is_done(ledger))
    made = {row.seed: row for row in rows(ledger)}
    assert (made[5].state, made[5].cause, made[5].attempts) == (JobState.FAILED, "poison", 3)
    others = [row for seed, row in made.items() if seed != 5]
    assert {row.state for row in others} == {JobState.SUCCEEDED}
    # Those that were on the device with it the first time are charged once, and nobody twice.
    assert max(row.attempts for row in others) <= 2
    assert sum(row.attempts > 1 for row in others) < 16


def test_a_killed_workers_jobs_are_put_back_within_two_seconds_and_made_by_the_other(jobs: Any, make: Make) -> None:
    ledger = jobs(64, steps=40)
    with make(2, copies=False) as fleet:
        victim = fleet.workers[0]
        tend(fleet, lambda: any(row.worker == victim.name and row.state is JobState.RUNNING for row in rows(ledger)))
        name, killed = victim.name, time.monotonic()
        victim.send(signal.SIGKILL)
        tend(fleet, lambda: not queries.running_claims(ledger.engine, name))
        assert time.monotonic() - killed <= 2
        assert {row.name: row.state for row in queries.workers(ledger.engine)}[name] == "dead"
        tend(fleet, lambda: is_done(ledger))
    assert {row.state for row in rows(ledger)} == {JobState.SUCCEEDED}
    assert victim.name != name


def test_a_hung_worker_is_replaced_and_its_jobs_made(jobs: Any, make: Make) -> None:
    ledger = jobs(12)
    with make(1, ODD.format(odd=HUNG), step_timeout=4.0) as fleet:
        first = fleet.workers[0].name
        tend(fleet, lambda: is_done(ledger))
        assert fleet.workers[0].name != first
    assert {row.state for row in rows(ledger)} == {JobState.SUCCEEDED}


def test_a_worker_that_grows_is_replaced_between_images_and_no_attempt_counts(jobs: Any, make: Make) -> None:
    ledger = jobs(48, steps=30)
    with make(1, max_memory=2**26) as fleet:
        tend(fleet, lambda: is_done(ledger))
    assert len({row.worker for row in rows(ledger)}) > 1
    assert {(row.state, row.attempts) for row in rows(ledger)} == {(JobState.SUCCEEDED, 1)}


def test_a_slot_that_cannot_work_is_given_up_and_the_others_go_on(
    jobs: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = jobs(6)
    with make(2) as fleet:
        broken, working = fleet.workers
        monkeypatch.setattr("producer.worker_process.PROGRAM", (sys.executable, "-c", "raise SystemExit(3)"))
        broken.send(signal.SIGKILL)
        tend(fleet, lambda: broken.farewell and is_done(ledger))
        assert working.farewell is None
        assert "cpu0: The worker ended 3 times in a row, last with exit code 3" in fleet.farewells
        working.send(signal.SIGKILL)
        with pytest.raises(WorkerKeepsDying, match="cpu1"):
            tend(fleet, lambda: False)
    assert {row.state for row in rows(ledger)} == {JobState.SUCCEEDED}


def test_a_cancelled_batch_leaves_the_device_within_seconds(jobs: Any, make: Make, home: Path) -> None:
    ledger = jobs(20, steps=900)
    with make(1) as fleet:
        tend(fleet, lambda: count(ledger, JobState.RUNNING) and fleet.workers[0]._box and fleet.workers[0]._box.claims)
        ledger.cancel_batch(1)
        cancelled = time.monotonic()
        tend(fleet, lambda: is_done(ledger))
        assert time.monotonic() - cancelled < 5
    assert {row.state for row in rows(ledger)} == {JobState.CANCELLED}
    assert not list((home / "images").rglob("*.png"))


def test_a_stopped_fleet_leaves_nothing_running_and_no_box(jobs: Any, make: Make, home: Path) -> None:
    from producer.interrupts import Interrupts

    ledger = jobs(64, steps=40)
    with make(2, copies=False) as fleet, Interrupts() as interrupts:
        tend(fleet, lambda: count(ledger, JobState.SUCCEEDED))
        fleet.stop(interrupts)
    assert count(ledger, JobState.RUNNING) == 0
    assert {row.attempts for row in rows(ledger)} <= {0, 1}
    assert not list(box_folder(home).iterdir())
    assert not queries.workers(ledger.engine)
    assert not [child for child in psutil.Process().children() if "worker" in child.cmdline()]
