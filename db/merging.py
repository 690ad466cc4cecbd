"""Brings the batches of another ledger into this one, each with ids of its own, page by page.

A batch is opened in its last transaction. Until then nobody works on it, and `fsck` and the next merge can take it for
what it is: one that was not recorded to its end.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Row, Select, func, insert, select, text, update

from db.blocks import ENDED
from db.copying import living_workers
from db.errors import LedgerInUse, LedgerTooNew, LedgerTooOld, NotInLedger
from db.ledger import Ledger, NewBatch
from db.migrate import HEAD, revision
from db.models import BATCHES, HOLDS, IMAGES, JOBS, NOTICES, Batch, Hold, Image, Job, JobState, Notice
from db.notices import MANY, Event
from db.patience import patiently
from db.pruning import remove_jobs
from db.reading import PAGE, read, snapshot

#: What a batch is only given when it is opened: before, it must look as new as it is.
LATE = ("created_at", "submitted_at", "paused_at", "cancelled_at", "sent_at")


#: Where an image goes: from the id that its job has here, the job, and the image.
Paths = Callable[[int, Row[Any], Row[Any]], str]


class Known(NamedTuple):
    """A batch of this ledger, as far as it matters to a merge."""

    id: int
    is_open: bool


class Page(NamedTuple):
    """Some jobs of a batch in the order of their ids, and their images by the ids of the jobs."""

    jobs: Sequence[Row[Any]]
    images: Mapping[int, Row[Any]]


def check_other(other: Engine) -> None:
    """See that a ledger can be merged as it stands.

    Raises:
        LedgerTooOld, LedgerTooNew: it has other tables than this version.
        LedgerInUse: somebody works on its jobs.
    """
    found = revision(other)
    if found is None or found < HEAD:
        raise LedgerTooOld(f"The other ledger is at revision {found or 'none'}, and not {HEAD}: run "
                           "`promptmill db upgrade` with its home or URL first.")  # fmt: skip
    if found > HEAD:
        raise LedgerTooNew(f"The other ledger is at revision {found}, newer than this Promptmill knows ({HEAD}).")
    if alive := living_workers(other):
        raise LedgerInUse(f"Workers of the other ledger are alive ({alive}): stop them first.")
    running = select(func.count()).select_from(JOBS).where(Job.state == JobState.RUNNING)
    if count := read(other, running)[0][0]:
        raise LedgerInUse(
            f"{count} jobs of the other ledger are running: stop its workers first. Where none is left, "
            "`promptmill fsck --repair` puts such jobs back there."
        )


def begin_reading(other: Engine) -> Connection:
    """A connection that sees a ledger as it is now, for as long as it takes to copy its images."""
    connection = snapshot(other)
    if other.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    return connection


def uid_of(batch: Row[Any]) -> str:
    """What names a batch in every ledger. One older than that column is told by what never changes of it."""
    told = (batch.name, batch.source_sha256, batch.image_format, repr(batch.created_at))
    return batch.uid or sha256("\n".join(told).encode()).hexdigest()[:32]


def batches(origin: Connection) -> Iterator[Row[Any]]:
    """The batches that were recorded to their end, oldest first."""
    wanted = select(BATCHES).where(Batch.submitted_at.is_not(None)).order_by(Batch.id).limit(PAGE)
    last = 0
    while page := origin.execute(wanted.where(Batch.id > last)).all():
        yield from page
        last = page[-1].id


def known_batches(engine: Engine) -> dict[str, Known]:
    """All batches of a ledger, by what names them."""
    rows = read(engine, select(BATCHES))
    return {uid_of(row): Known(row.id, row.submitted_at is not None) for row in rows}


def count_batch(origin: Connection, batch_id: int) -> tuple[int, int]:
    """How many jobs and images a batch has."""
    rows = func.count(Job.id), func.count(Image.id)
    jobs, images = origin.execute(select(*rows).select_from(JOBS).outerjoin(IMAGES).where(_mine(batch_id))).one()
    return jobs, images


def pages(origin: Connection, batch_id: int) -> Iterator[Page]:
    """All jobs of a batch, page by page."""
    # Without its ends a page would begin at the first job of all.
    ends = select(func.min(Job.id), func.max(Job.id)).where(_mine(batch_id))
    last, end = origin.execute(ends).one()
    if last is None:
        return
    last -= 1
    jobs = select(JOBS).where(_mine(batch_id), Job.id <= end).order_by(Job.id).limit(PAGE)
    while page := origin.execute(jobs.where(Job.id > last)).all():
        images = origin.execute(_images(batch_id, last, page[-1].id)).all()
        yield Page(page, {image.job_id: image for image in images})
        last = page[-1].id


def _images(batch_id: int, low: int, high: int) -> Select[Any]:
    mine = (_mine(batch_id), Job.id > low, Job.id <= high)
    return select(IMAGES).join(JOBS, Job.id == Image.job_id).where(*mine)


def _mine(batch_id: int) -> Any:
    return Job.batch_id == batch_id


def paths_of(engine: Engine, batch_id: int) -> Iterator[str]:
    """The paths of the images of a batch that is not open, page by page."""
    made = select(Image.job_id, Image.path).join(JOBS, Job.id == Image.job_id).join(BATCHES, Batch.id == Job.batch_id)
    wanted, last = made.where(_mine(batch_id), Batch.submitted_at.is_(None)), 0
    while page := read(engine, wanted.where(Image.job_id > last).order_by(Image.job_id).limit(PAGE)):
        yield from (row.path for row in page)
        last = page[-1].job_id


def discard(ledger: Ledger, batch_id: int) -> None:
    """Remove a batch that was never opened, without keeping others waiting for as long as that takes."""
    ended = select(Job.id).where(_mine(batch_id), Job.state.in_(ENDED)).limit(PAGE)
    while page := read(ledger.engine, ended):
        patiently(partial(remove_jobs, ledger.engine, [row.id for row in page]))
    ledger.discard_batch(batch_id)


def begin_batch(ledger: Ledger, batch: Row[Any], slug: str) -> int:
    """Record a batch of another ledger, without jobs and not open; returns its id here."""
    new = NewBatch(
        name=batch.name,
        slug=slug,
        source_sha256=batch.source_sha256,
        image_format=batch.image_format,
        total=batch.total,
        priority=batch.priority,
        uid=uid_of(batch),
    )
    return ledger.create_batch(new)


def add_page(ledger: Ledger, batch_id: int, page: Page, paths: Paths) -> list[int]:
    """Record jobs with their images; returns the jobs' ids here, in their order.

    Raises:
        NotInLedger: somebody has removed the batch.
    """
    ids: list[int] = []

    def write() -> None:
        with ledger.engine.begin() as connection:
            # A connection that breaks in a commit leaves open whether it was done.
            if not (ids and connection.execute(select(Job.id).where(Job.id == ids[0], _mine(batch_id))).first()):
                _stay_young(connection, batch_id)
                ids[:] = _new_ids(connection, len(page.jobs))
                _insert(connection, batch_id, ids, page, paths)

    patiently(write)
    return ids


def _stay_young(connection: Connection, batch_id: int) -> None:
    """Let `promptmill fsck` not take the batch for one that was left; raises NotInLedger where somebody did."""
    unopened = (Batch.id == batch_id, Batch.submitted_at.is_(None))
    if not connection.execute(update(BATCHES).where(*unopened).values(created_at=time.time())).rowcount:
        raise NotInLedger("The batch that was being merged was removed meanwhile: merge again.")


def _new_ids(connection: Connection, count: int) -> list[int]:
    """Ids of jobs that nobody has; ascending."""
    if connection.dialect.name == "postgresql":
        drawn = text("SELECT nextval(pg_get_serial_sequence('job', 'id')) FROM generate_series(1, :count)")
        return sorted(connection.scalars(drawn, {"count": count}))
    # The transaction has begun with the lock.
    largest = connection.execute(select(func.max(Job.id))).scalar() or 0
    return list(range(largest + 1, largest + 1 + count))


def _insert(connection: Connection, batch_id: int, ids: Sequence[int], page: Page, paths: Paths) -> None:
    numbered = list(zip(ids, page.jobs, strict=True))
    jobs = [{**job._asdict(), "id": job_id, "batch_id": batch_id} for job_id, job in numbered]
    connection.execute(insert(JOBS), jobs)
    made = [(job_id, job, page.images[job.id]) for job_id, job in numbered if job.id in page.images]
    images = [_image_row(image, job_id, paths(job_id, job, image)) for job_id, job, image in made]
    if images:
        connection.execute(insert(IMAGES), images)


def _image_row(image: Row[Any], job_id: int, path: str) -> dict[str, Any]:
    row = {**image._asdict(), "job_id": job_id, "path": path}
    del row["id"]
    return row


def open_merged(ledger: Ledger, batch_id: int, origin: Connection, batch: Row[Any]) -> None:
    """Let a batch be seen as it is in the other ledger, in one transaction, and nobody be told of what has been."""
    holds = [hold._asdict() for hold in origin.execute(select(HOLDS).where(Hold.batch_id == batch.id))]
    notices = _notices(origin, batch.id, held=bool(holds))
    patiently(partial(_open, ledger.engine, batch_id, {name: batch._mapping[name] for name in LATE}, holds, notices))


def _open(
    engine: Engine, batch_id: int, times: Mapping[str, Any], holds: list[dict[str, Any]], notices: list[dict[str, Any]]
) -> None:
    opened = select(Batch.id).where(Batch.id == batch_id, Batch.submitted_at.is_not(None))
    with engine.begin() as connection:
        # As in `add_page`.
        if not connection.execute(opened).first():
            _stay_young(connection, batch_id)
            connection.execute(update(BATCHES).where(Batch.id == batch_id).values(**times))
            for table, rows in ((HOLDS, holds), (NOTICES, notices)):
                if rows:
                    connection.execute(insert(table), [{**row, "batch_id": batch_id} for row in rows])


def _notices(origin: Connection, batch_id: int, *, held: bool) -> list[dict[str, Any]]:
    """What was told of a batch, and what there is to tell by now, as told."""
    now = time.time()
    told = {row.event: row.sent_at or now for row in origin.execute(select(NOTICES).where(Notice.batch_id == batch_id))}
    told = {**dict.fromkeys(_events(origin, batch_id, held=held), now), **told}
    return [{"event": event, "claimed_until": at, "sent_at": at} for event, at in told.items()]


def _events(origin: Connection, batch_id: int, *, held: bool) -> Iterator[str]:
    """What `db.notices` would find of a batch."""
    by_state = select(Job.state, func.count()).where(_mine(batch_id)).group_by(Job.state)
    counts = Counter[JobState]()
    for state, count in origin.execute(by_state):
        counts[state] = count
    if held:
        yield Event.HELD.value
    if not counts[JobState.QUEUED]:
        yield Event.ENDED.value
    elif counts[JobState.FAILED] >= MANY and not counts[JobState.SUCCEEDED]:
        yield Event.FAILING.value
