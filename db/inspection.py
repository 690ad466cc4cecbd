"""What a check of the whole ledger reads, page by page: memory does not grow with it, and no transaction stays open."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Row, Select, exists, func, or_, select

from db.models import BATCHES, IMAGES, JOBS, Batch, Hold, Image, Job, JobState

#: Rows fetched at a time.
PAGE = 2000

#: What is looked at of a job and its image; fields of an image begin with ``image``, and are None where there is none.
LOOKED_AT = (
    Job.id,
    Job.batch_id,
    Job.state,
    Job.fence,
    Job.priority,
    Job.lease_until,
    Job.seed,
    Image.path.label("image_path"),
    Image.sha256.label("image_sha256"),
    Image.bytes.label("image_bytes"),
    Image.width.label("image_width"),
    Image.height.label("image_height"),
    Image.seconds.label("image_seconds"),
    Image.worker.label("image_worker"),
)


def batches(engine: Engine, batch_id: int | None = None) -> Iterator[Row[Any]]:
    """All batches, or the one, those that were never opened too."""
    wanted = select(BATCHES) if batch_id is None else select(BATCHES).where(Batch.id == batch_id)
    last = 0
    while page := _read(engine, wanted.where(Batch.id > last).order_by(Batch.id).limit(PAGE)):
        yield from page
        last = page[-1].id


def jobs(engine: Engine, batch_id: int | None = None) -> Iterator[Row[Any]]:
    """All jobs of the opened batches, or of the one, in order of id: `LOOKED_AT`."""
    wanted = _jobs().where(Batch.submitted_at.is_not(None))
    last, end = (0, None) if batch_id is None else _span(engine, batch_id)
    if batch_id is not None:
        wanted = wanted.where(Job.batch_id == batch_id, Job.id <= end)
    while page := _read(engine, wanted.where(Job.id > last).order_by(Job.id).limit(PAGE)):
        yield from page
        last = page[-1].id


def find_jobs(engine: Engine, ids: Sequence[int]) -> dict[int, Row[Any]]:
    """The jobs of those ids, by id: `LOOKED_AT`. At most `PAGE` ids."""
    return {row.id: row for row in _read(engine, _jobs().where(Job.id.in_(ids)))}


def pictures_below(engine: Engine, folder: str) -> set[str]:
    """The pictures in a folder that jobs begin from, or have as their mask."""
    columns = (Job.init_image, Job.mask_image)
    named = (select(column).where(column.startswith(f"{folder}/", autoescape=True)).distinct() for column in columns)
    return {row[0] for statement in named for row in _read(engine, statement)}


def waiting_jobs(engine: Engine, ids: Sequence[int], before: float) -> Sequence[Row[Any]]:
    """Those of the ids that are queued and not held back, in a batch submitted and sent before then: `LOOKED_AT`."""
    held = exists().where(Hold.batch_id == Job.batch_id, Hold.model == Job.model)
    old = (Batch.submitted_at < before, or_(Batch.sent_at.is_(None), Batch.sent_at < before))
    startable = (Job.state == JobState.QUEUED, Batch.paused_at.is_(None), ~held, *old)
    return _read(engine, _jobs().where(Job.id.in_(ids), *startable).order_by(Job.id))


def _jobs() -> Select[Any]:
    return select(*LOOKED_AT).join_from(JOBS, BATCHES, Batch.id == Job.batch_id).outerjoin(IMAGES)


def _span(engine: Engine, batch_id: int) -> tuple[int, int]:
    """Just below the first, and the last job id of a batch: without them a page would begin at the first job of all."""
    ends = select((func.min(Job.id) - 1).label("low"), func.max(Job.id).label("high")).where(Job.batch_id == batch_id)
    row = _read(engine, ends)[0]
    return row.low or 0, row.high or 0


def _read(engine: Engine, statement: Select[Any]) -> Sequence[Row[Any]]:
    with engine.connect().execution_options(readonly=True) as connection:
        return connection.execute(statement).all()
