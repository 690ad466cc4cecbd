"""What a worker does with a chunk: start its jobs, generate, save, finish."""

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from configs.settings import Settings
from db import queries
from db.ledger import Claim, Ledger
from db.models import JobState
from worker.checkpoints import Checkpoint
from worker.disk import wait_for_space
from worker.engine import Engine
from worker.errors import CheckpointRefused, JobRefused, JobReturned, NonFiniteImage, OutOfMemory
from worker.images import image_name, image_path, save_image
from worker.leases import Leases
from worker.sample import Picture, Sample
from worker.warm import WarmEngine

log = logging.getLogger(__name__)

#: Libraries whose version can change a picture.
LIBRARIES = ("promptmill", "torch", "diffusers", "transformers", "numpy", "pillow")
VERSIONS = {library: version(library) for library in LIBRARIES}

#: Columns of a job that make its sample as they are.
SAMPLED = ("prompt", "negative_prompt", "sampler", "steps", "scale", "width", "height", "seed", "eta", "strength")

#: The ledger's word for a failure, by its class.
CAUSES = {CheckpointRefused: "checkpoint", JobRefused: "invalid", OutOfMemory: "memory", NonFiniteImage: "nan"}


@dataclass(kw_only=True)
class ChunkRunner:
    """Renders chunks with the parts of one worker process; several task threads use it at once."""

    settings: Settings
    #: Recorded with every job and image this process makes.
    name: str
    ledger: Ledger
    leases: Leases
    warm: WarmEngine
    #: Sends job ids again, in one message.
    send: Callable[[Sequence[int]], None]
    stopping: threading.Event = field(default_factory=threading.Event)

    def render_chunk(self, ids: Sequence[int]) -> None:
        """Make the images of those jobs that are still to be made; every job started here is ended or put back."""
        root = self.settings.images_root
        if not wait_for_space(root, self.settings.disk_watermark_mb, self.stopping):
            return self.send(ids)
        claims = self.ledger.start_jobs(ids, self.name, self.settings.lease_seconds)
        self.leases.add(claims)
        try:
            self._generate_all({claim.job_id: claim for claim in claims})
        finally:
            # Whatever went wrong, a job nobody works on must not keep its lease: it would never be rescued.
            for claim in claims:
                self.leases.drop(claim)

    def _generate_all(self, claims: dict[int, Claim]) -> None:
        jobs = sorted(queries.jobs_to_make(self.ledger.engine, list(claims)), key=attrgetter("model", "id"))
        for model, group in groupby(jobs, key=attrgetter("model")):
            self._generate(model, [(job, claims[job.id]) for job in group])

    def _generate(self, model: str, work: list[tuple[Row[Any], Claim]]) -> None:
        try:
            with self.warm.lent(model) as engine:
                futures = {engine.submit(_sample(job)): (job, claim) for job, claim in work}
                ended = [self._conclude(*futures[future], future, engine) for future in as_completed(futures)]
        except (JobReturned, CheckpointRefused) as error:
            ended = [self._end(job, claim, error) for job, claim in work]
        if again := sorted(job_id for job_id in ended if job_id):
            self.send(again)

    def _conclude(self, job: Row[Any], claim: Claim, future: "Future[Picture]", engine: Engine) -> int | None:
        """Save and finish a job; returns its id when it must be sent again."""
        try:
            image = self._save(job, future.result(), engine.checkpoint)
            if not self.ledger.finish_job(claim, image):
                log.warning("Job %d was taken away meanwhile; its late result is not recorded.", job.id)
        except (CancelledError, Exception) as error:
            return self._end(job, claim, error)
        finally:
            self.leases.drop(claim)
        return None

    def _save(self, job: Row[Any], picture: Picture, checkpoint: Checkpoint) -> dict[str, Any]:
        """Put the picture on disk; returns the image's row."""
        name = image_name(job.id, job.seed, job.image_format)
        path = image_path(self.settings.images_root, job.folder, name)
        facts = provenance(picture, checkpoint, self.name)
        saved = save_image(picture.pixels, path, metadata={**parameters(job), **facts, "job": job.id})
        height, width = picture.pixels.shape[:2]
        where = path.relative_to(self.settings.images_root.resolve()).as_posix()
        return {**facts, "path": where, "sha256": saved.sha256, "bytes": saved.bytes, "width": width, "height": height}

    def _end(self, job: Row[Any], claim: Claim, error: BaseException) -> int | None:
        """After an error: what happens next is the error's class. Returns the id when the job is queued again."""
        self.leases.drop(claim)
        if isinstance(error, CancelledError | JobReturned):
            return job.id if self.ledger.release_jobs([claim]) else None
        if isinstance(error, JobRefused | CheckpointRefused):
            log.error("Job %d failed: %s", job.id, error)
            self.ledger.fail_job(claim, cause_of(error), str(error))
            return None
        log.error("Job %d met an unexpected error.", job.id, exc_info=error)
        message = "".join(traceback.format_exception(error))
        state = self.ledger.retry_job(claim, cause_of(error), message, self.settings.max_attempts)
        return job.id if state is JobState.QUEUED else None


def cause_of(error: BaseException) -> str:
    """The ledger's word for why a job failed."""
    return next((word for kind, word in CAUSES.items() if isinstance(error, kind)), "unexpected")


def parameters(job: Row[Any]) -> dict[str, Any]:
    """What was asked for, by the words of the ledger."""
    return {name: getattr(job, name) for name in (*SAMPLED, "model", "init_image", "tags")}


def provenance(picture: Picture, checkpoint: Checkpoint, worker: str) -> dict[str, Any]:
    """What made the picture, by the words of the ledger."""
    return {
        "seconds": round(picture.seconds, 4),
        "worker": worker,
        "device": picture.device,
        "dtype": picture.dtype,
        "batch_rows": picture.rows,
        "checkpoint_hash": checkpoint.hash,
        "versions": VERSIONS,
    }


def _sample(job: Row[Any]) -> Sample:
    init_image = Path(job.init_image) if job.init_image else None
    return Sample(**{name: getattr(job, name) for name in SAMPLED}, init_image=init_image)
