"""How the making of a batch went: the reads of its report."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, func, select

from db.models import IMAGES, JOBS, Image, Job, JobState
from db.reading import PAGE, paged, read
from db.tags import tag


def makings(engine: Engine, batch_id: int) -> Iterator[Row[Any]]:
    """Of every image: id of its job, ``worker``, ``device``, ``created_at`` and ``seconds``."""
    columns = (Job.id, Image.worker, Image.device, Image.created_at, Image.seconds)
    return paged(engine, select(*columns).join(IMAGES, Image.job_id == Job.id).where(Job.batch_id == batch_id))


def span(engine: Engine, batch_id: int) -> Row[Any]:
    """When the batch's first job ``began`` and its last one ``ended``; None where none has."""
    times = (func.min(Job.started_at).label("began"), func.max(Job.finished_at).label("ended"))
    return read(engine, select(*times).where(Job.batch_id == batch_id))[0]


def failures(engine: Engine, batch_id: int) -> Sequence[Row[Any]]:
    """The causes of failed jobs, the most frequent first: ``cause``, ``jobs``, ``job_id`` and ``message`` of one."""
    failed = (
        select(Job.cause, func.count().label("jobs"), func.min(Job.id).label("job_id"))
        .where(Job.batch_id == batch_id, Job.state == JobState.FAILED)
        .group_by(Job.cause)
        .subquery()
    )
    statement = select(failed, Job.message).join(JOBS, Job.id == failed.c.job_id)
    return read(engine, statement.order_by(failed.c.jobs.desc(), failed.c.cause))


def slowest(engine: Engine, batch_id: int, limit: int) -> Sequence[Row[Any]]:
    """The jobs whose images were longest in the making, with ``path`` and ``image_seconds``."""
    statement = select(JOBS, Image.path, Image.seconds.label("image_seconds")).join(IMAGES, Image.job_id == Job.id)
    statement = statement.where(Job.batch_id == batch_id)
    return read(engine, statement.order_by(Image.seconds.desc(), Job.id).limit(limit))


def tag_names(engine: Engine, batch_id: int) -> list[str]:
    """The tags that the batch's first jobs have, in the file's order."""
    statement = select(Job.tags).where(Job.batch_id == batch_id).order_by(Job.id).limit(PAGE)
    return list(dict.fromkeys(name for (tags,) in read(engine, statement) for name in tags))


def images_by_tag(engine: Engine, batch_id: int, name: str) -> dict[str, int]:
    """How many images the batch has for each value of a tag, most first; without it, they are under an empty one."""
    value = _value(engine, name).label("value")
    statement = select(value, func.count()).join(IMAGES, Image.job_id == Job.id).where(Job.batch_id == batch_id)
    # By the column's name: PostgreSQL takes the same expression with values of its own for another one.
    grouped = statement.group_by("value").order_by(func.count().desc(), "value")
    return dict(read(engine, grouped))  # type: ignore[arg-type]


def picture_paths(engine: Engine, batch_id: int, name: str) -> Iterator[Row[Any]]:
    """Of every image: id and ``prompt`` of its job, its ``path``, and the ``value`` of the tag."""
    columns = (Job.id, Job.prompt, Image.path, _value(engine, name).label("value"))
    return paged(engine, select(*columns).join(IMAGES, Image.job_id == Job.id).where(Job.batch_id == batch_id))


def _value(engine: Engine, name: str) -> ColumnElement[str]:
    return func.coalesce(tag(engine, name), "")
