"""The jobs before and behind one of its batch: a few steps along an index, however large batch and ledger are."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Row, Select, select, union_all

from db.models import Job, JobState
from db.reading import read
from db.search import with_image


def neighbours(engine: Engine, batch_id: int, job_id: int, count: int) -> Sequence[Row[Any]]:
    """The job with as many as ``count`` before it and behind it, in order of id, with their images."""
    around = [_next(batch_id, job_id, count, forward=forward) for forward in (False, True)]
    ids = {job_id, *(row.id for statement in around for row in read(engine, statement))}
    return read(engine, with_image().where(Job.id.in_(ids)).order_by(Job.id))


def _next(batch_id: int, job_id: int, count: int, *, forward: bool) -> Select[Any]:
    """State by state: the index of the batch's jobs is in order of id within each."""
    beyond = Job.id > job_id if forward else Job.id < job_id
    order = Job.id.asc() if forward else Job.id.desc()
    of_state = (
        select(Job.id).where(Job.batch_id == batch_id, Job.state == state, beyond).order_by(order).limit(count)
        for state in JobState
    )
    found = union_all(*(statement.subquery().select() for statement in of_state)).subquery()
    return select(found.c.id).order_by(found.c.id if forward else found.c.id.desc()).limit(count)
