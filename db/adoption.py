"""Pictures that were made elsewhere: recorded as jobs that have succeeded, all of a batch at once."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from db.models import BATCHES, IMAGES, JOBS, NOTICES, Batch, Image, Job, JobState
from db.notices import Event
from db.patience import patiently
from db.reading import PAGE, read

#: Of an image, to know it again.
KNOWN = (Image.sha256, Image.bytes, Image.path)


def job_ids(engine: Engine, batch_id: int) -> list[int]:
    """The jobs of a batch, in the order of their lines."""
    rows = read(engine, select(Job.id).where(Job.batch_id == batch_id).order_by(Job.line, Job.image_index))
    return [row.id for row in rows]


def images(engine: Engine) -> Iterator[Any]:
    """All images: `KNOWN`, page by page."""
    wanted, last = select(Image.id, *KNOWN).order_by(Image.id).limit(PAGE), 0
    while page := read(engine, wanted.where(Image.id > last)):
        yield from page
        last = page[-1].id


def adopt(engine: Engine, batch_id: int, pictures: Iterable[Mapping[str, Any]]) -> None:
    """Record the images of a batch that is not open, let its jobs succeed and open it, in one transaction.

    Nobody is told of its end.
    """
    patiently(partial(_adopt, engine, batch_id, list(pictures)))


def _adopt(engine: Engine, batch_id: int, pictures: Sequence[Mapping[str, Any]]) -> None:
    now = time.time()
    with engine.begin() as connection:
        opened = update(BATCHES).where(Batch.id == batch_id, Batch.submitted_at.is_(None))
        # A connection that breaks in a commit leaves open whether it was done.
        if connection.execute(opened.values(submitted_at=now)).rowcount:
            _write(connection, pictures)
            # It ended elsewhere, maybe long ago.
            told = {"batch_id": batch_id, "event": Event.ENDED.value, "claimed_until": now, "sent_at": now}
            connection.execute(insert(NOTICES).values(told))


def _write(connection: Connection, pictures: Sequence[Mapping[str, Any]]) -> None:
    done = {"state": JobState.SUCCEEDED, "finished_at": bindparam("at"), "worker": bindparam("by")}
    ended = [{"job": row["job_id"], "at": row["created_at"], "by": row["worker"]} for row in pictures]
    connection.execute(update(JOBS).where(Job.id == bindparam("job")).values(done), ended)
    connection.execute(insert(IMAGES), list(pictures))
