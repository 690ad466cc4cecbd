"""Every write to the ledger, each a compare-and-set in its own transaction. ``docs/job_states.md`` draws them."""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Engine, Table, Update, and_, case, delete, exists, insert, literal, or_, select, tuple_, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql import Executable

from configs.redaction import redact
from db.blocks import forget, forget_batch
from db.claim import Claim
from db.errors import NotInLedger
from db.models import (
    BATCHES,
    HOLDS,
    IMAGES,
    JOBS,
    NOTICES,
    STATE,
    WORKERS,
    Batch,
    Hold,
    Image,
    Job,
    JobState,
    Notice,
    Worker,
    WorkerState,
)
from db.new_jobs import insert_jobs
from db.patience import patiently

#: Ids in one statement: databases limit its variables.
SLICE = 100
#: Seconds for which a dead worker is remembered.
MOURNING = 86_400.0


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """What is known of a batch before its jobs are recorded."""

    name: str
    slug: str
    source_sha256: str
    image_format: str
    total: int
    priority: int = 5
    #: Names it in every ledger. None: one is drawn.
    uid: str | None = None


class Ledger:
    """The writes. Reads are in `db.queries`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # ---- batches

    def create_batch(self, batch: NewBatch) -> int:
        """Record a batch without jobs; nobody works on it until `open_batch`. Returns its id."""
        values = {
            "name": batch.name,
            "folder": "",
            "source_sha256": batch.source_sha256,
            "image_format": batch.image_format,
            "priority": batch.priority,
            "total": batch.total,
            "created_at": time.time(),
            "uid": batch.uid or secrets.token_hex(16),
        }

        def write() -> int:
            with self.engine.begin() as connection:
                batch_id: int = connection.execute(insert(BATCHES).values(values).returning(Batch.id)).scalar_one()
                folder = f"{batch_id:04d}-{batch.slug}".rstrip("-")
                connection.execute(update(BATCHES).where(Batch.id == batch_id).values(folder=folder))
                return batch_id

        return patiently(write)

    def add_jobs(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Record queued jobs of a batch that is not open yet, in one transaction. All have the same columns."""
        first = and_(*(JOBS.c[name] == jobs[0][name] for name in ("batch_id", "line", "image_index")))
        tried = False

        def write() -> None:
            nonlocal tried
            with self.engine.begin() as connection:
                # A connection that breaks in a commit leaves open whether it was done.
                if not (tried and connection.execute(select(Job.id).where(first)).first()):
                    tried = True
                    insert_jobs(connection, jobs)

        patiently(write)

    def open_batch(self, batch_id: int) -> None:
        """All jobs are recorded: from now on they may be sent and started."""
        self._change_batch(batch_id, submitted_at=time.time())

    def discard_batch(self, batch_id: int) -> None:
        """Remove a batch that was never opened, with its jobs."""

        def write() -> None:
            with self.engine.begin() as connection:
                unopened = select(Batch.id).where(Batch.id == batch_id, Batch.submitted_at.is_(None))
                jobs = select(Job.id).where(Job.batch_id.in_(unopened))
                connection.execute(delete(IMAGES).where(Image.job_id.in_(jobs)))
                connection.execute(delete(JOBS).where(Job.batch_id.in_(unopened)))
                connection.execute(delete(BATCHES).where(Batch.id == batch_id, Batch.submitted_at.is_(None)))
                forget_batch(connection, batch_id)
                forget(connection)

        patiently(write)

    def pause_batch(self, batch_id: int) -> None:
        """No job of the batch is started until `resume_batch`; running ones finish."""
        self._change_batch(batch_id, paused_at=time.time())

    def resume_batch(self, batch_id: int) -> None:
        """Start jobs of the batch again, those that were held back too."""
        self._execute(delete(HOLDS).where(Hold.batch_id == batch_id))
        self._execute(delete(NOTICES).where(Notice.batch_id == batch_id, Notice.event != "ended"))
        self._change_batch(batch_id, paused_at=None)

    def prioritise_batch(self, batch_id: int, priority: int) -> None:
        """Have what is not made yet of the batch made sooner, 0, or later, 9. Messages that are sent keep their own."""
        self._change_batch(batch_id, priority=priority)
        waiting = (Job.batch_id == batch_id, Job.state == JobState.QUEUED)
        self._execute(update(JOBS).where(*waiting).values(priority=priority))

    def mark_sent(self, batch_id: int) -> None:
        """Its jobs are being sent."""
        self._change_batch(batch_id, sent_at=time.time())

    def hold_jobs(self, batch_id: int, model: str, cause: str, message: str) -> None:
        """Start no more jobs of the batch that want the checkpoint, until `resume_batch`."""
        values = {"cause": cause, "message": redact(message), "held_at": time.time()}
        self._put(HOLDS, {"batch_id": batch_id, "model": model}, values)

    def cancel_batch(self, batch_id: int) -> int:
        """Cancel every queued job; running ones are given up by their workers. Returns how many were queued."""
        self._change_batch(batch_id, cancelled_at=time.time())
        return self._execute(
            update(JOBS)
            .where(Job.batch_id == batch_id, Job.state == JobState.QUEUED)
            .values(state=JobState.CANCELLED, finished_at=time.time())
        ).rowcount

    def retry_batch(self, batch_id: int) -> int:
        """Put failed and cancelled jobs back, with their attempts forgotten. Returns how many."""
        self._change_batch(batch_id, cancelled_at=None)
        ended = update(JOBS).where(Job.batch_id == batch_id, Job.state.in_((JobState.FAILED, JobState.CANCELLED)))
        values = {"state": JobState.QUEUED, "attempts": 0, "cause": None, "message": None, "finished_at": None}

        def write() -> int:
            with self.engine.begin() as connection:
                again = connection.execute(ended.values(fence=Job.fence + 1, **values)).rowcount
                if again:  # It will end again.
                    connection.execute(delete(NOTICES).where(Notice.batch_id == batch_id))
                forget_batch(connection, batch_id)
                return again

        return patiently(write)

    def _change_batch(self, batch_id: int, **values: float | None) -> None:
        if not self._execute(update(BATCHES).where(Batch.id == batch_id).values(values)).rowcount:
            raise NotInLedger(f"There is no batch {batch_id}; `promptmill status` lists them.")

    # ---- jobs

    def start_jobs(self, job_ids: Sequence[int], worker: str, lease_seconds: float) -> list[Claim]:
        """Queued → running, for those of ``job_ids`` that are still queued in an open batch that is not paused.

        The attempt is counted and the fence raised before any work. What is not returned is done, somebody else's,
        paused or cancelled: leave it alone.
        """
        now = time.time()
        startable = select(Batch.id).where(Batch.submitted_at.is_not(None), Batch.paused_at.is_(None))
        held = exists().where(Hold.batch_id == Job.batch_id, Hold.model == Job.model)
        statement = (
            update(JOBS)
            .where(Job.id.in_(job_ids), Job.state == JobState.QUEUED, Job.batch_id.in_(startable), ~held)
            .values(
                state=JobState.RUNNING,
                attempts=Job.attempts + 1,
                fence=Job.fence + 1,
                worker=worker,
                lease_until=now + lease_seconds,
                started_at=now,
            )
            .returning(Job.id, Job.fence)
        )
        return sorted(self._returning(statement))

    def renew_leases(self, claims: Iterable[Claim], lease_seconds: float) -> None:
        """Extend the leases of exactly these claims; one that has been taken away stays so."""
        until = time.time() + lease_seconds
        for part in _sliced(claims):
            self._execute(update(JOBS).where(_held(part)).values(lease_until=until))

    def finish_job(self, claim: Claim, image: Mapping[str, Any]) -> bool:
        """Running → succeeded and the image's row, in one transaction.

        Returns False, and records nothing, when the claim is no longer ours.
        """
        done = update(JOBS).where(_held([claim])).values(state=JobState.SUCCEEDED, **_ended())

        def write() -> bool:
            with self.engine.begin() as connection:
                if not connection.execute(done).rowcount:
                    return False
                connection.execute(insert(IMAGES).values(job_id=claim.job_id, created_at=time.time(), **image))
                return True

        return patiently(write)

    def fail_job(self, claim: Claim, cause: str, message: str) -> bool:
        """Running → failed, with one word for the cause and a message. False when the claim is no longer ours."""
        values = {"state": JobState.FAILED, "cause": cause, "message": redact(message), **_ended()}
        return bool(self._execute(update(JOBS).where(_held([claim])).values(values)).rowcount)

    def retry_job(self, claim: Claim, cause: str, message: str, max_attempts: int) -> JobState | None:
        """After an unexpected error: running → queued, or → failed when its attempts are used up.

        Returns the new state, or None when the claim is no longer ours.
        """
        held = _held([claim])
        worn = update(JOBS).where(held, Job.attempts >= max_attempts)
        failed = {"state": JobState.FAILED, "cause": cause, "message": redact(message), **_ended()}
        if self._execute(worn.values(failed)).rowcount:
            return JobState.FAILED
        back = update(JOBS).where(held).values(cause=cause, message=redact(message), **_put_back())
        states = [state for _, state in self._returning(back.returning(Job.id, Job.state))]
        return states[0] if states else None

    def release_jobs(self, claims: Iterable[Claim]) -> list[int]:
        """Running → queued without counting the attempt, of which the job is innocent. Returns the ids put back."""
        released: list[int] = []
        attempts = case((Job.attempts > 0, Job.attempts - 1), else_=0)
        for part in _sliced(claims):
            statement = update(JOBS).where(_held(part)).values(attempts=attempts, **_put_back())
            released += self._queued_again(statement)
        return sorted(released)

    def rescue_jobs(self, max_attempts: int, *, worker: str | None = None, before: float | None = None) -> list[int]:
        """Put back the running jobs whose lease ended ``before`` then, else by now; or all of a dead ``worker``.

        A job that has used up its attempts kills its workers, and is failed as ``poison``. Returns the ids put back.
        """
        stalled = and_(
            Job.state == JobState.RUNNING,
            Job.lease_until < (before or time.time()) if worker is None else Job.worker == worker,
        )
        poison = f"Its worker died {max_attempts} times while making it; `promptmill retry` tries it again."
        self._execute(
            update(JOBS)
            .where(stalled, Job.attempts >= max_attempts)
            .values(state=JobState.FAILED, cause="poison", message=poison, fence=Job.fence + 1, **_ended())
        )
        return sorted(self._queued_again(update(JOBS).where(stalled).values(_put_back())))

    def remake_jobs(self, seen: Iterable[Claim]) -> list[int]:
        """Succeeded → queued, without its image: the file is lost or damaged. Returns the ids put back.

        ``seen`` are the jobs with the fence they were seen with; one that has changed since is left alone.
        """
        return sorted(job_id for part in _sliced(seen) for job_id in patiently(partial(self._remake, part)))

    def _remake(self, seen: Sequence[Claim]) -> list[int]:
        damaged = update(JOBS).where(_is_one_of(seen), Job.state == JobState.SUCCEEDED)
        back = damaged.values(attempts=0, **_put_back()).returning(Job.id, Job.state)
        with self.engine.begin() as connection:
            rows = connection.execute(back).all()
            connection.execute(delete(IMAGES).where(Image.job_id.in_([row.id for row in rows])))
            forget(connection, (row.id for row in rows))
        return [row.id for row in rows if row.state is JobState.QUEUED]

    def forget_images(self, seen: Iterable[Claim]) -> int:
        """Remove the images of jobs that have not succeeded, where they are as they were seen; returns how many.

        They cannot come about here; but with one, its job could never be finished.
        """
        unfinished = Job.state != JobState.SUCCEEDED
        wrong = (select(Job.id).where(_is_one_of(part), unfinished) for part in _sliced(seen))
        return sum(self._execute(delete(IMAGES).where(Image.job_id.in_(ids))).rowcount for ids in wrong)

    # ---- workers

    def report_worker(self, name: str, **values: Any) -> None:
        """What there is to say of a worker: columns of the table `worker`. It was alive just now."""
        values["seen_at"] = time.time()
        known = {"state": WorkerState.STARTING.value, "jobs_done": 0, "rate": 0.0, "started_at": values["seen_at"]}
        self._put(WORKERS, {"name": name}, values, known)

    def bury_worker(self, name: str) -> None:
        """The worker is dead; `forget_worker` is for those that ended as they should."""
        self._execute(update(WORKERS).where(Worker.name == name).values(state=WorkerState.DEAD.value, rate=0.0))

    def forget_worker(self, name: str) -> None:
        """The worker has ended as it should. Those that fell silent a day ago are forgotten with it."""
        silent = Worker.seen_at < time.time() - MOURNING
        self._execute(delete(WORKERS).where(or_(Worker.name == name, silent)))

    # ---- execution

    def _put(
        self, table: Table, key: Mapping[str, Any], values: Mapping[str, Any], first: Mapping[str, Any] | None = None
    ) -> None:
        """Change the row of a key, or make it, with ``first`` for what nobody has said yet."""
        mine = and_(*(table.c[name] == value for name, value in key.items()))

        def write() -> None:
            with self.engine.begin() as connection:
                if not connection.execute(update(table).where(mine).values(values)).rowcount:
                    connection.execute(insert(table).values({**(first or {}), **key, **values}))

        try:
            patiently(write)
        except IntegrityError:  # In PostgreSQL two can make it at once.
            patiently(write)

    def _execute(self, statement: Executable) -> CursorResult[Any]:
        def write() -> CursorResult[Any]:
            with self.engine.begin() as connection:
                return connection.execute(statement)

        return patiently(write)

    def _queued_again(self, statement: Update) -> list[int]:
        rows = self._returning(statement.returning(Job.id, Job.state))
        return [job_id for job_id, state in rows if state is JobState.QUEUED]

    def _returning(self, statement: Executable) -> list[Any]:
        def write() -> list[Any]:
            with self.engine.begin() as connection:
                return list(connection.execute(statement).all())

        return patiently(write)


def _held(claims: Sequence[Claim]) -> Any:
    """Rows still running under one of the claims' fences."""
    return and_(Job.state == JobState.RUNNING, _is_one_of(claims))


def _is_one_of(claims: Sequence[Claim]) -> Any:
    """Rows that have the fence of their claim."""
    # One statement for any number of them: SQLAlchemy keeps each that it has compiled. The ids are for the index.
    ids = [claim.job_id for claim in claims]
    return and_(Job.id.in_(ids), tuple_(Job.id, Job.fence).in_([tuple(claim) for claim in claims]))


def _ended() -> dict[str, Any]:
    return {"lease_until": None, "finished_at": time.time()}


def _put_back() -> dict[str, Any]:
    """Back to queued; a job of a batch that was cancelled meanwhile is cancelled with it."""
    # Locked: in PostgreSQL a cancelling that has begun would else not be seen, and would not see the job.
    when = select(Batch.cancelled_at).where(Batch.id == Job.batch_id).with_for_update(read=True)
    cancelled = when.scalar_subquery().is_not(None)
    return {
        "state": case((cancelled, literal(JobState.CANCELLED, STATE)), else_=literal(JobState.QUEUED, STATE)),
        "fence": Job.fence + 1,
        "worker": None,
        "lease_until": None,
        "started_at": None,
        "finished_at": case((cancelled, literal(time.time())), else_=None),
    }


def _sliced(claims: Iterable[Claim]) -> Iterable[list[Claim]]:
    rest = list(claims)
    return (rest[i : i + SLICE] for i in range(0, len(rest), SLICE))
