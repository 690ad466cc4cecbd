"""The ledger under any sequence of writes, each of which may be cut off before any of its statements or commits.

On SQLite, and on PostgreSQL with fewer examples.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, event, func, select

from db.claim import Claim
from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from db.models import BATCHES, IMAGES, JOBS, Image, Job, JobState
from tests.db.conftest import IMAGE, job

BATCH = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=3)
WORKERS = strategies.sampled_from(["a", "b"])
#: How many statements and commits a write gets through before its process dies; most live.
LIVES = strategies.one_of(strategies.none(), strategies.none(), strategies.none(), strategies.integers(0, 4))
#: Leases that are over at once, and such that never are.
LEASES = strategies.sampled_from([-1.0, 1e6])
MOST_ATTEMPTS = 3


class Killed(BaseException):
    """What is raised where a process dies: nothing catches it."""


@contextmanager
def dying(engine: Engine, life: int | None) -> Iterator[None]:
    """Within the block the process dies after so many statements and commits."""
    remaining = life

    def live(*_: object) -> None:
        nonlocal remaining
        if remaining == 0:
            raise Killed
        remaining = remaining and remaining - 1

    event.listen(engine, "before_cursor_execute", live)
    event.listen(engine, "commit", live)
    try:
        with suppress(Killed):
            yield
    finally:
        event.remove(engine, "before_cursor_execute", live)
        event.remove(engine, "commit", live)


class LedgerMachine(RuleBasedStateMachine):
    """Submits, workers and rescues that take turns on one ledger."""

    claims = Bundle("claims")
    #: Of an empty ledger; None is a new SQLite file for each example.
    url: str | None = None

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        default = f"sqlite:///{Path(self.folder.name)}/ledger.sqlite3"
        self.ledger: Ledger = open_ledger(self.url or default)
        self.engine = self.ledger.engine
        self.fences: dict[int, int] = {}
        self.finished: set[int] = set()
        with self.engine.begin() as connection:
            for table in (IMAGES, JOBS, BATCHES):
                connection.execute(table.delete())
        self.submit(None)

    def teardown(self) -> None:
        self.all_ends_well()
        self.engine.dispose()
        self.folder.cleanup()

    @rule(life=LIVES)
    def submit(self, life: int | None) -> None:
        with dying(self.engine, life):
            batch_id = self.ledger.create_batch(BATCH)
            self.ledger.add_jobs([job(batch_id, seed=seed) for seed in range(BATCH.total)])
            self.ledger.open_batch(batch_id)

    @rule(target=claims, worker=WORKERS, lease=LEASES, dead=strategies.booleans(), life=LIVES)
    def start(self, worker: str, lease: float, dead: bool, life: int | None) -> Any:
        started: list[Claim] = []
        with dying(self.engine, life):
            if dead:
                self.ledger.rescue_jobs(MOST_ATTEMPTS, worker="b" if worker == "a" else "a")
            started = self.ledger.start_jobs(self.ids(), worker, lease)
        assert not {claim.job_id for claim in started} & self.finished
        return multiple(*started)

    @rule(claim=claims, life=LIVES)
    def finish(self, claim: Claim, life: int | None) -> None:
        with self.refusing_late(claim), dying(self.engine, life):
            if self.ledger.finish_job(claim, IMAGE):
                assert claim.job_id not in self.finished
                self.finished.add(claim.job_id)

    @rule(claim=claims, life=LIVES)
    def fail(self, claim: Claim, life: int | None) -> None:
        with self.refusing_late(claim), dying(self.engine, life):
            self.ledger.fail_job(claim, "invalid", "It cannot be.")

    @rule(claim=claims, life=LIVES)
    def retry_one(self, claim: Claim, life: int | None) -> None:
        with self.refusing_late(claim), dying(self.engine, life):
            self.ledger.retry_job(claim, "unexpected", "It went wrong.", MOST_ATTEMPTS)

    @rule(claim=consumes(claims), life=LIVES)
    def release(self, claim: Claim, life: int | None) -> None:
        with self.refusing_late(claim), dying(self.engine, life):
            self.ledger.release_jobs([claim])

    @rule(claim=claims, life=LIVES)
    def renew(self, claim: Claim, life: int | None) -> None:
        with self.refusing_late(claim), dying(self.engine, life):
            self.ledger.renew_leases([claim], 1e6)

    @rule(worker=strategies.one_of(strategies.none(), WORKERS), life=LIVES)
    def rescue(self, worker: str | None, life: int | None) -> None:
        with dying(self.engine, life):
            self.ledger.rescue_jobs(MOST_ATTEMPTS, worker=worker)

    @rule(
        change=strategies.sampled_from(
            [Ledger.cancel_batch, Ledger.retry_batch, Ledger.pause_batch, Ledger.resume_batch, Ledger.discard_batch]
        ),
        choice=strategies.integers(0, 9),
        life=LIVES,
    )
    def change_batch(self, change: Callable[[Ledger, int], object], choice: int, life: int | None) -> None:
        batches = self.rows(select(BATCHES.c.id))
        if batches:
            with dying(self.engine, life):
                change(self.ledger, batches[choice % len(batches)].id)

    @invariant()
    def an_image_and_success_are_one(self) -> None:
        succeeded = [row.id for row in self.rows(select(Job.id).where(Job.state == JobState.SUCCEEDED))]
        assert sorted(succeeded) == sorted(row.job_id for row in self.rows(select(Image.job_id)))
        assert self.finished <= set(succeeded)

    @invariant()
    def whoever_runs_has_a_lease_and_nobody_else(self) -> None:
        for row in self.rows(select(JOBS)):
            running = row.state is JobState.RUNNING
            assert (row.lease_until is not None) == running
            assert not running or row.worker
            assert (row.finished_at is not None) == row.state.is_final
            assert 0 <= row.attempts <= row.fence

    @invariant()
    def a_fence_never_falls(self) -> None:
        fences = {row.id: row.fence for row in self.rows(select(Job.id, Job.fence))}
        assert all(fence >= self.fences.get(job_id, 0) for job_id, fence in fences.items())
        self.fences = fences

    def all_ends_well(self) -> None:
        """Whatever happened: one look for stalled jobs later, one worker makes everything that is left, once."""
        for worker in ("a", "b"):
            self.ledger.rescue_jobs(MOST_ATTEMPTS, worker=worker)
        for row in self.rows(select(BATCHES.c.id)):
            self.ledger.resume_batch(row.id)
        for claim in self.ledger.start_jobs(self.ids(), "last", 1e6):
            assert self.ledger.finish_job(claim, IMAGE)
        opened = BATCHES.c.submitted_at.is_not(None)
        unfinished = select(func.count()).select_from(JOBS.join(BATCHES)).where(opened)
        states = (JobState.QUEUED, JobState.RUNNING)
        assert self.rows(unfinished.where(Job.state.in_(states)))[0][0] == 0
        self.an_image_and_success_are_one()

    @contextmanager
    def refusing_late(self, claim: Claim) -> Iterator[None]:
        """Within the block nothing becomes of a job whose claim is no longer good."""
        statement = select(JOBS).where(Job.id == claim.job_id)
        before = self.rows(statement)
        yield
        held = any(row.state is JobState.RUNNING and row.fence == claim.fence for row in before)
        assert held or self.rows(statement) == before

    def ids(self) -> list[int]:
        return [row.id for row in self.rows(select(Job.id))]

    def rows(self, statement: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(statement).all())


TestLedger = pytest.mark.slow(LedgerMachine.TestCase)
LedgerMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
@pytest.mark.postgresql
def test_any_sequence_of_writes_ends_well_in_postgresql(postgresql_url: str) -> None:
    class Machine(LedgerMachine):
        url = postgresql_url

    run_state_machine_as_test(Machine, settings=settings(LedgerMachine.TestCase.settings, max_examples=6))
