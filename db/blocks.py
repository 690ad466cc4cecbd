"""Blocks of jobs, and tallies of what became of each, counted once all its jobs have ended.

Tallies tell what has been made, and which blocks a search can pass over. They are written when somebody asks, so that
no job costs more for them. Whoever takes back that a job has ended, or removes one, forgets its block with it.
"""

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Select,
    case,
    cast,
    delete,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    text,
)

from db.models import IMAGES, JOBS, TALLIES, Image, Job, JobState, Tally
from db.patience import patiently
from db.reading import read

#: Ids of a block: a block is that of the ids from itself times so many on.
BLOCK = 8192
DAY = 86_400
#: Seconds after which no older job appears any more among those that ended: no recording of jobs takes as long.
QUIET = 3600.0
ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
KEYS = ("batch_id", "model", "sampler", "width", "height", "day", "worker")
SUMS = ("images", "failures", "seconds")
#: The blocks that lie behind us, have no tally, and have no job that is still to end.
_MISSING = text("""
    WITH RECURSIVE every (block) AS (
        SELECT 0 WHERE (SELECT max(id) FROM job) >= :size
        UNION ALL SELECT block + 1 FROM every WHERE (block + 2) * :size <= (SELECT max(id) FROM job)
    )
    SELECT block FROM every WHERE NOT EXISTS (SELECT 1 FROM tally WHERE tally.block = every.block) AND NOT EXISTS (
        SELECT 1 FROM job WHERE state IN ('queued', 'running')
        AND id BETWEEN every.block * :size AND every.block * :size + :size - 1
    )
""")

_WRITTEN = text("""
    SELECT EXISTS (
        SELECT 1 FROM pg_locks WHERE relation = 'job'::regclass AND mode = 'RowExclusiveLock'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid IS DISTINCT FROM pg_backend_pid()
    )
""")


def single_jobs() -> Select[Any]:
    """Of each job, a row as the tallies have one of many.

    The seconds are the image's share of the device: of the time from joining the running samples to its picture, the
    part that is its own where the largest call had several rows.
    """
    failed = case((Job.state == JobState.FAILED, 1), else_=0)
    columns = {
        "day": cast(func.floor(Job.finished_at / DAY), Integer),
        "worker": func.coalesce(Job.worker, Image.worker, ""),
        "images": case((Image.id.is_not(None), 1), else_=0),
        "failures": failed,
        "seconds": func.coalesce(Image.seconds / Image.batch_rows, 0.0),
    }
    chosen = (columns[name].label(name) if name in columns else Job[name] for name in (*KEYS, *SUMS))
    return select(*chosen).select_from(JOBS).outerjoin(IMAGES, Image.job_id == Job.id)


def catch_up(engine: Engine) -> None:
    """Count the blocks that lie behind us and have not been counted."""
    for (block,) in read(engine, _MISSING.bindparams(size=BLOCK)):
        with engine.connect().execution_options(readonly=True) as connection:
            closed = _is_closed(connection, block)
        if closed:
            patiently(partial(_count, engine, block))


def _count(engine: Engine, block: int) -> None:
    jobs = single_jobs().where(_of_block(Job.id, block)).subquery()
    keys = [jobs.c[name] for name in KEYS]
    rows = select(literal(block), *keys, *(func.sum(jobs.c[name]) for name in SUMS)).group_by(*keys)
    with engine.begin() as connection:
        # One at a time, and nobody forgets a block meanwhile; SQLite has begun with such a lock.
        if engine.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE tally IN SHARE ROW EXCLUSIVE MODE"))
        if _is_closed(connection, block):
            connection.execute(insert(TALLIES).from_select(["block", *KEYS, *SUMS], rows))


def _is_closed(connection: Connection, block: int) -> bool:
    """Whether the block has no tally, all its jobs have ended, and no other one can appear."""
    # Asked first: what is recorded by then is counted. Jobs of another ledger ended long ago when they are recorded.
    written = _is_written(connection)
    unended = func.count().filter(Job.state.not_in(ENDED))
    statement = select(func.count(), unended, func.coalesce(func.max(Job.finished_at), 0.0))
    jobs, open_jobs, newest = connection.execute(statement.where(_of_block(Job.id, block))).one()
    if open_jobs or connection.execute(select(Tally.block).where(Tally.block == block).limit(1)).first():
        return False
    return bool(jobs == (BLOCK if block else BLOCK - 1) or (newest < time.time() - QUIET and not written))


def _is_written(connection: Connection) -> bool:
    """Whether a transaction may hold ids of jobs that are not to be seen yet. SQLite has one writer at a time."""
    return connection.dialect.name == "postgresql" and bool(connection.execute(_WRITTEN).scalar())


def _of_block(column: "Column[Any]", block: int) -> ColumnElement[bool]:
    return column.between(block * BLOCK, (block + 1) * BLOCK - 1)


def forget(connection: Connection, ids: Iterable[int] = ()) -> None:
    """Forget the tallies of the jobs' blocks, and of the newest one's: ids of removed jobs may be given again."""
    blocks = sorted({job_id // BLOCK for job_id in ids})
    newest = func.coalesce(select(func.max(Job.id)).scalar_subquery(), 0)
    connection.execute(delete(TALLIES).where(or_(Tally.block.in_(blocks), (Tally.block + 1) * BLOCK > newest)))


def forget_batch(connection: Connection, batch_id: int) -> None:
    """Forget the tallies of all blocks that have jobs of the batch."""
    mine = select(Tally.block).where(Tally.batch_id == batch_id)
    connection.execute(delete(TALLIES).where(Tally.block.in_(mine)))


def stretches(connection: Connection, low: int, high: int, holds: ColumnElement[bool]) -> Sequence[tuple[int, int]]:
    """From ``low`` to ``high``, the ids of blocks that may have a job for which that holds, in order.

    ``holds`` is a condition on tallies. Neighbours are one stretch; a block without a tally may have anything.
    """
    passed = set(connection.scalars(_passed(low, high, holds)))
    found: list[tuple[int, int]] = []
    for block in range(low // BLOCK, high // BLOCK + 1):
        if block in passed:
            continue
        first, last = max(low, block * BLOCK), min(high, (block + 1) * BLOCK - 1)
        if found and found[-1][1] == first - 1:
            first = found.pop()[0]
        found.append((first, last))
    return found


def _passed(low: int, high: int, holds: ColumnElement[bool]) -> Select[Any]:
    near = Tally.block.between(low // BLOCK, high // BLOCK)
    return select(Tally.block).where(near).group_by(Tally.block).having(func.count().filter(holds) == 0)


def uncounted(connection: Connection) -> Sequence[tuple[int, int]]:
    """The ids of the blocks that have no tally."""
    newest = connection.execute(select(func.max(Job.id))).scalar() or 0
    return stretches(connection, 0, newest, false())
