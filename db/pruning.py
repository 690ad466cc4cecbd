"""Takes jobs that have ended out of the ledger for good."""

from collections.abc import Collection, Sequence

from sqlalchemy import Engine, delete, select, update

from db.blocks import ENDED, forget
from db.models import BATCHES, HOLDS, IMAGES, JOBS, NOTICES, Batch, Hold, Image, Job, Notice


def remove_jobs(engine: Engine, ids: Sequence[int]) -> dict[int, int]:
    """Remove those of the jobs that have ended, with their images' rows; returns the batch of each that is gone.

    Their batches have so many jobs less from then on. At most `db.reading.PAGE` ids.
    """
    ended = select(Job.id, Job.batch_id).where(Job.id.in_(ids), Job.state.in_(ENDED)).order_by(Job.id)
    with engine.begin() as connection:
        # Locked, so that none is queued again before it is gone; SQLite has locked everything.
        gone = {row.id: row.batch_id for row in connection.execute(ended.with_for_update())}
        connection.execute(delete(IMAGES).where(Image.job_id.in_(gone)))
        connection.execute(delete(JOBS).where(Job.id.in_(gone)))
        forget(connection, gone)
        for batch_id in set(gone.values()):
            fewer = list(gone.values()).count(batch_id)
            connection.execute(update(BATCHES).where(Batch.id == batch_id).values(total=Batch.total - fewer))
    return gone


def remove_empty_batches(engine: Engine, batch_ids: Collection[int]) -> int:
    """Remove those of the batches that have no jobs left; returns how many."""
    empty = select(Batch.id).where(Batch.id.in_(batch_ids), Batch.total == 0, Batch.submitted_at.is_not(None))
    with engine.begin() as connection:
        connection.execute(delete(HOLDS).where(Hold.batch_id.in_(empty)))
        connection.execute(delete(NOTICES).where(Notice.batch_id.in_(empty)))
        return connection.execute(delete(BATCHES).where(Batch.id.in_(empty))).rowcount
