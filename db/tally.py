"""Counts over what a query finds: images, failures and time, by model, sampler, size, day or worker."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, Integer, Row, Text, cast, func, select

from db.models import IMAGES, JOBS, Image, Job, JobState
from db.reading import read
from db.search import Query, conditions, prepare

DAY = 86_400
#: What jobs can be counted by. A day is a number of days since 1970 in UTC; None has not ended.
KEYS: Mapping[str, ColumnElement[Any]] = {
    "model": Job.model,
    "sampler": Job.sampler,
    "size": cast(Job.width, Text).concat("x").concat(cast(Job.height, Text)),
    "day": cast(func.floor(Job.finished_at / DAY), Integer),
    "worker": func.coalesce(Image.worker, Job.worker, ""),
}


def tally(engine: Engine, query: Query, by: str) -> Sequence[Row[Any]]:
    """For each value of ``by``: ``key``, ``images``, ``failures`` and ``seconds``, in order of the key.

    The seconds are each image's share: of the time from joining the running samples to its picture, the part that is
    its own where the largest call had several rows.
    """
    prepare(engine, query)
    # By the column's name: PostgreSQL takes the same expression with values of its own for another one.
    columns = (
        KEYS[by].label("key"),
        func.count(Image.id).label("images"),
        func.count().filter(Job.state == JobState.FAILED).label("failures"),
        func.coalesce(func.sum(Image.seconds / Image.batch_rows), 0.0).label("seconds"),
    )
    statement = select(*columns).select_from(JOBS).outerjoin(IMAGES, Image.job_id == Job.id)
    return read(engine, statement.where(*conditions(engine, query)).group_by("key").order_by("key"))
