"""Jobs by what they ask for: what there is already of a file that is submitted again."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Row, select

from db.models import BATCHES, IMAGES, JOBS, Batch, Image, Job
from db.reading import PAGE, paged, read

#: Rows fetched at a time where it is a key each.
LARGE_PAGE = 10_000


def content_keys(engine: Engine) -> Iterator[tuple[int, bytes]]:
    """Id and key of all jobs that have one, in order of id."""
    keyed, last = select(Job.id, Job.content_key).where(Job.content_key.is_not(None)).order_by(Job.id), 0
    while page := read(engine, keyed.where(Job.id > last).limit(LARGE_PAGE)):
        yield from page  # type: ignore[misc]
        last = page[-1][0]


def standings(engine: Engine, ids: Sequence[int]) -> Iterator[Row[Any]]:
    """Of those jobs that are submitted: id, ``content_key``, ``state``, and the image's ``path`` and hash, if any."""
    columns = (Job.id, Job.content_key, Job.state, Image.path, Image.checkpoint_hash)
    wanted = select(*columns).join_from(JOBS, BATCHES, Batch.id == Job.batch_id).outerjoin(IMAGES)
    for start in range(0, len(ids), PAGE):
        part = ids[start : start + PAGE]
        yield from read(engine, wanted.where(Job.id.in_(part), Batch.submitted_at.is_not(None)))


def newest_batch(engine: Engine, name: str) -> Row[Any] | None:
    """The newest batch of that name that was submitted: ``id``, ``uid``."""
    named = select(Batch.id, Batch.uid).where(Batch.name == name, Batch.submitted_at.is_not(None))
    return next(iter(read(engine, named.order_by(Batch.id.desc()).limit(1))), None)


def asked_before(engine: Engine, batch_id: int) -> Iterator[Row[Any]]:
    """Id, ``line`` and ``content_key`` of a batch's jobs, in order of id."""
    return paged(engine, select(Job.id, Job.line, Job.content_key).where(Job.batch_id == batch_id))


def jobs_by_id(engine: Engine, ids: Sequence[int]) -> dict[int, Row[Any]]:
    """Whole jobs; at most `PAGE` ids."""
    return {row.id: row for row in read(engine, select(JOBS).where(Job.id.in_(ids)))}
