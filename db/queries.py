"""Every read of the ledger."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Engine, Row, Select, exists, func, select, text

from configs.plain_text import recordable
from db.claim import Claim
from db.errors import NotInLedger
from db.models import BATCHES, HOLDS, IMAGES, JOBS, WORKERS, Batch, Hold, Image, Job, JobState, Worker
from db.reading import PAGE, paged, read
from db.search import with_image

#: Rows fetched at a time where all are wanted, and it is ids alone.
LARGE_PAGE = 10_000
#: Seconds that sending a batch takes at most, and jobs that are surely sent in one more.
SENDING, SENT_A_SECOND = 10.0, 10_000.0
#: Written as the partial index of the leases has it: with a bound value the index is not used.
RUNNING = text("state = 'running'")
#: The same with that of the flags.
FLAGGED = text("flagged IS NOT NULL")


def batches(engine: Engine, limit: int = 20, before: int | None = None) -> Sequence[Row[Any]]:
    """The newest batches that were submitted, newest first; ``before`` is the last one of the page before."""
    statement = select(BATCHES).where(Batch.submitted_at.is_not(None)).order_by(Batch.id.desc()).limit(limit)
    return read(engine, statement if before is None else statement.where(Batch.id < before))


def batch_of_uid(engine: Engine, uid: str) -> Row[Any] | None:
    """The batch that has this name in every ledger, submitted or not."""
    found = read(engine, select(BATCHES).where(Batch.uid == uid))
    return found[0] if found else None


def find_batch(engine: Engine, name: str | None) -> Row[Any]:
    """The batch of that id or file name; the newest without one. The newest wins where several have the name.

    Raises:
        NotInLedger: there is none.
    """
    statement = select(BATCHES).where(Batch.submitted_at.is_not(None)).order_by(Batch.id.desc()).limit(1)
    if name is not None:
        wanted = Batch.id == number if (number := id_of(name)) else Batch.name == recordable(name)
        statement = statement.where(wanted)
    found = read(engine, statement)
    if not found:
        what = f"no batch {name}" if name else "no batch yet"
        raise NotInLedger(f"There is {what}; `promptmill status` lists them, `promptmill submit FILE` makes one.")
    return found[0]


def id_of(text: str) -> int | None:
    """The id that a text is; None where it is none that a database can have given."""
    number = int(text) if text.isdecimal() and len(text) < 20 else 0
    return number if 0 < number < 2**63 else None


def waiting_batches(engine: Engine) -> Sequence[Row[Any]]:
    """The submitted batches that are not paused and have queued jobs, oldest first."""
    queued = exists().where(Job.batch_id == Batch.id, Job.state == JobState.QUEUED)
    open_now = (Batch.submitted_at.is_not(None), Batch.paused_at.is_(None))
    return read(engine, select(BATCHES).where(*open_now, queued).order_by(Batch.id))


def is_paused(engine: Engine, batch_id: int) -> bool:
    """Whether no job of the batch is started for now."""
    return bool(read(engine, select(Batch.id).where(Batch.id == batch_id, Batch.paused_at.is_not(None))))


def holds(engine: Engine, batch_id: int) -> Sequence[Row[Any]]:
    """What is held back of a batch, and why: with ``jobs``, the number of those that wait for it."""
    waiting = (
        select(func.count())
        .where(Job.batch_id == batch_id, Job.state == JobState.QUEUED, Job.model == Hold.model)
        .scalar_subquery()
    )
    statement = select(HOLDS, waiting.label("jobs")).where(Hold.batch_id == batch_id)
    return read(engine, statement.order_by(Hold.held_at))


def counts(engine: Engine, batch_id: int) -> dict[JobState, int]:
    """How many jobs of the batch are in each state."""
    statement = select(Job.state, func.count()).where(Job.batch_id == batch_id).group_by(Job.state)
    found: dict[JobState, int] = dict(read(engine, statement))  # type: ignore[arg-type]
    return {state: found.get(state, 0) for state in JobState}


def flags(engine: Engine, batch_id: int) -> dict[str, int]:
    """How many images of the batch are flagged, by the word."""
    statement = select(Image.flagged, func.count()).join(JOBS, Job.id == Image.job_id).where(Job.batch_id == batch_id)
    return dict(read(engine, statement.where(FLAGGED).group_by(Image.flagged).order_by(Image.flagged)))  # type: ignore[arg-type]


def chunks(engine: Engine, batch_id: int) -> Iterator[tuple[int, list[int]]]:
    """The batch's queued jobs as (chunk number, job ids), chunk by chunk."""
    queued = Job.state == JobState.QUEUED
    statement = select(Job.id, Job.chunk).where(Job.batch_id == batch_id, queued)
    # By place: names cost a million rows four seconds.
    for number, rows in groupby(paged(engine, statement), key=itemgetter(1)):
        yield number, list(map(itemgetter(0), rows))


def jobs_to_make(engine: Engine, job_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """The jobs of those ids with their batch's ``folder`` and ``image_format``, in order of id."""
    statement = (
        select(JOBS, Batch.folder, Batch.image_format)
        .join(BATCHES, Batch.id == Job.batch_id)
        .where(Job.id.in_(job_ids))
    )
    return read(engine, statement.order_by(Job.id))


def running_claims(engine: Engine, worker: str) -> list[Claim]:
    """The jobs that a worker has started and that have not ended."""
    return _claims(engine, select(Job.id, Job.fence).where(RUNNING, Job.worker == worker))


def stalled_claims(engine: Engine, moment: float) -> dict[str, list[Claim]]:
    """The running jobs whose lease ended before then, by their worker."""
    statement = select(Job.worker, Job.id, Job.fence).where(RUNNING, Job.lease_until < moment)
    found: dict[str, list[Claim]] = {}
    for row in read(engine, statement):
        found.setdefault(row.worker or "", []).append(Claim(row.id, row.fence))
    return found


def wanted_claims(engine: Engine, claims: Sequence[Claim]) -> set[Claim]:
    """Those of the claims that still hold, and whose batch is not cancelled."""
    statement = select(Job.id, Job.fence).join_from(JOBS, BATCHES, Batch.id == Job.batch_id)
    wanted = (Job.state == JobState.RUNNING, Batch.cancelled_at.is_(None))
    ids = [claim.job_id for claim in claims]
    parts = (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))
    found = {claim for part in parts for claim in _claims(engine, statement.where(Job.id.in_(part), *wanted))}
    return found & set(claims)


def is_held(engine: Engine, claim: Claim) -> bool:
    """Whether a claim still holds."""
    return bool(read(engine, select(Job.id).where(Job.id == claim.job_id, Job.fence == claim.fence, RUNNING)))


def waiting_ids(engine: Engine, now: float) -> Iterator[list[int]]:
    """The ids of the jobs that a message should speak of by now, in order and in pages.

    They are queued, their batch may be worked on and was sent long enough ago for all its messages to have gone.
    """
    gone = func.coalesce(Batch.sent_at, Batch.submitted_at) + SENDING + Batch.total / SENT_A_SECOND
    batches = select(Batch.id).where(Batch.submitted_at.is_not(None), Batch.paused_at.is_(None), gone < now)
    held = exists().where(Hold.batch_id == Job.batch_id, Hold.model == Job.model)
    for (batch_id,) in read(engine, batches.order_by(Batch.id)):
        last = 0
        mine = (Job.batch_id == batch_id, Job.state == JobState.QUEUED, ~held)
        while page := read(engine, select(Job.id).where(*mine, Job.id > last).order_by(Job.id).limit(LARGE_PAGE)):
            yield [row[0] for row in page]
            last = page[-1][0]


def chunks_of(engine: Engine, ids: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Those of the jobs that are still queued, as (priority, ids), each with others of its first chunk."""
    place = attrgetter("priority", "batch_id", "chunk")
    statement = select(Job.id, Job.priority, Job.batch_id, Job.chunk).where(Job.state == JobState.QUEUED)
    for start in range(0, len(ids), PAGE):
        rows = read(engine, statement.where(Job.id.in_(ids[start : start + PAGE])))
        for (priority, *_), chunk in groupby(sorted(rows, key=place), key=place):
            yield priority, [row.id for row in chunk]


def workers(engine: Engine) -> Sequence[Row[Any]]:
    """All that are known, by name."""
    return read(engine, select(WORKERS).order_by(Worker.name))


def find_job(engine: Engine, job_id: int) -> Row[Any]:
    """One job with its image.

    Raises:
        NotInLedger: there is none.
    """
    found = read(engine, with_image().where(Job.id == job_id))
    if not found:
        raise NotInLedger(f"There is no job {job_id}; `promptmill history` lists them.")
    return found[0]


def damage(engine: Engine) -> str:
    """What SQLite's own check finds wrong with the file; empty when it is sound."""
    found = read(engine, text("PRAGMA quick_check(5)"))
    return "; ".join(row[0] for row in found if row[0] != "ok")


def outcomes(engine: Engine, batch_id: int, after: int = 0) -> Iterator[Row[Any]]:
    """The batch's jobs beyond ``after`` in order of id: state, what names files, and the ``path`` of the image."""
    columns = (Job.id, Job.state, Job.prompt, Job.seed, Job.init_image, Image.path)
    statement = select(*columns).outerjoin(IMAGES, Image.job_id == Job.id).where(Job.batch_id == batch_id)
    return paged(engine, statement, after)


def pictures(engine: Engine, batch_id: int) -> Iterator[Row[Any]]:
    """The batch's jobs that have an image, with it, in order of id."""
    return paged(engine, with_image().where(Job.batch_id == batch_id, Image.id.is_not(None)))


def _claims(engine: Engine, statement: Select[Any]) -> list[Claim]:
    return [Claim(row.id, row.fence) for row in read(engine, statement)]
