"""What the newest images took: time, and room on the disk."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Row, func, select

from db.models import BATCHES, IMAGES, WORKERS, Batch, Image, Job, Worker, WorkerState
from db.reading import read

#: Images looked at: enough for a rate, and read in a fraction of a second.
NEWEST = 20_000
#: Seconds without a sign of life after which a worker is not counted on.
SILENT = 60.0


def newest_images(engine: Engine, limit: int = NEWEST) -> Sequence[Row[Any]]:
    """The newest images, newest first, with what their jobs asked for and their batch's ``image_format``."""
    asked = (Job.model, Job.width, Job.height, Job.sampler, Job.steps, Job.scale, Batch.id, Batch.image_format)
    took = (Image.bytes, Image.seconds, Image.steps_run, Image.worker, Image.device, Image.created_at)
    newest = select(*asked, *took).select_from(IMAGES).join(Job.id.table, Job.id == Image.job_id)
    return read(engine, newest.join(BATCHES, Batch.id == Job.batch_id).order_by(Image.id.desc()).limit(limit))


def live_workers(engine: Engine) -> int:
    """How many workers there are to count on."""
    alive = (Worker.state != WorkerState.DEAD.value, Worker.seen_at > time.time() - SILENT)
    counted = read(engine, select(func.count()).select_from(WORKERS).where(*alive))
    return int(counted[0][0])
