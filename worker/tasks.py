"""What a worker does with a chunk: start its jobs, generate, save, finish."""

import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, as_completed
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import convert
from sqlalchemy import Row

from configs.compat import Noise, steps_taken
from configs.parameters import Parameters
from configs.roots import Roots
from configs.settings import Settings
from configs.watermark import embed
from db import queries
from db.black_box import BlackBox
from db.claim import Claim
from db.ledger import Ledger
from db.models import JobState
from worker.breaker import Breaker
from worker.disk import wait_for_space
from worker.errors import (
    CheckpointRefused,
    DeviceLost,
    EngineClosed,
    InitImageRefused,
    JobRefused,
    JobReturned,
    NonFiniteImage,
    OutOfMemory,
    ResultLate,
)
from worker.hiding import hide
from worker.images import image_name, image_path, is_flat, is_marked, save_image
from worker.init_images import admitted
from worker.leases import Leases
from worker.sample import Picture, Pixels, Sample

if TYPE_CHECKING:
    # A worker whose engine is another has no use for the libraries of this one.
    from worker.engine import Engine
    from worker.rendering import InFlight

log = logging.getLogger(__name__)

#: Libraries whose version can change a picture.
LIBRARIES = ("promptmill", "torch", "diffusers", "transformers", "numpy", "pillow")
VERSIONS = {library: version(library) for library in LIBRARIES}

#: Columns of a job that make its sample as they are.
SAMPLED = (
    "model", "prompt", "negative_prompt", "sampler", "steps", "scale", "width", "height", "seed", "eta", "strength",
    "precision", "compat", "weights",
)  # fmt: skip

#: Columns of a job that say what was asked for.
PARAMETERS = tuple(name for name in Parameters.__struct_fields__ if name != "num_images")
#: The flag of a picture that the safety checker found unsafe.
UNSAFE = "unsafe"

#: The ledger's word for a failure, by its class.
CAUSES = {
    OutOfMemory: "memory",
    NonFiniteImage: "nan",
    DeviceLost: "poison",
    CheckpointRefused: "checkpoint",
    JobRefused: "invalid",
}


@dataclass(kw_only=True)
class ChunkRunner:
    """Renders chunks with the parts of one worker process; several task threads use it at once."""

    settings: Settings
    #: Recorded with every job and image this process makes.
    name: str
    ledger: Ledger
    leases: Leases
    engine: "Engine"
    #: Told what is in the making.
    box: BlackBox
    breaker: Breaker
    #: Sends job ids again, in one message.
    send: Callable[[Sequence[int]], None]
    stopping: threading.Event = field(default_factory=threading.Event)
    #: What is with the engine.
    futures: "dict[Claim, Future[Picture]]" = field(default_factory=dict)

    def render_chunk(self, ids: Sequence[int], on_submitted: Callable[[], object] = lambda: None) -> None:
        """Make the images of those jobs that are still to be made; every job started here is ended or put back.

        on_submitted: called when the engine has all of their samples.
        """
        root = self.settings.images_root
        if not wait_for_space(root, self.settings.disk_watermark_mb, self.stopping):
            return self.send(ids)
        claims = self.ledger.start_jobs(ids, self.name, self.settings.lease_seconds)
        self.leases.add(claims)
        try:
            self._generate({claim.job_id: claim for claim in claims}, on_submitted)
        finally:
            # Whatever went wrong, a job nobody works on must not keep its lease: it would never be rescued.
            for claim in claims:
                self._forget(claim)

    def in_flight(self, priority: int) -> "dict[int, InFlight]":
        """The samples on the device that are at least so urgent, by their jobs."""
        flights = self.engine.in_flight(priority)
        # A copy in one go: other threads add and take away.
        wanted = self.futures.copy().items()
        return {claim.job_id: flights[future] for claim, future in wanted if future in flights}

    def drop(self, claims: Sequence[Claim]) -> None:
        """Give up jobs that are no longer ours to make, also on the device."""
        self.engine.drop([future for claim in claims if (future := self.futures.get(claim))])

    def _forget(self, claim: Claim) -> None:
        self.leases.drop(claim)
        self.futures.pop(claim, None)
        self.box.leave(claim)

    def _generate(self, claims: dict[int, Claim], on_submitted: Callable[[], object]) -> None:
        jobs = queries.jobs_to_make(self.ledger.engine, list(claims))
        futures = {self._submit(job, claims[job.id]): job for job in jobs}
        on_submitted()
        again = []
        for future in as_completed(list(futures)):
            # Popped: a picture is forgotten as soon as it is saved.
            job = futures.pop(future)
            if self._conclude(job, claims[job.id], future):
                again.append(job.id)
        if again:
            self.send(sorted(again))

    def _submit(self, job: Row[Any], claim: Claim) -> "Future[Picture]":
        try:
            sample = _sample(job, self.settings.roots)
            # One that has failed before may fail its neighbours too, or take them with it.
            self.futures[claim] = self.engine.submit(
                sample, job.priority, alone=job.attempts > 1, on_board=partial(self.box.enter, claim)
            )
            return self.futures[claim]
        except (EngineClosed, InitImageRefused) as error:
            refused: Future[Picture] = Future()
            refused.set_exception(error)
            return refused

    def _conclude(self, job: Row[Any], claim: Claim, future: "Future[Picture]") -> bool:
        """Save and finish a job; returns whether it must be sent again."""
        try:
            image = self._save(job, claim, future.result())
            if self.ledger.finish_job(claim, image):
                self.box.count()
            else:
                log.warning("%s was taken away meanwhile; its late result is not recorded.", named(job))
            self.breaker.succeed(job.batch_id, job.model)
        except (CancelledError, Exception) as error:
            return self._end(job, claim, error)
        finally:
            self._forget(claim)
        return False

    def _save(self, job: Row[Any], claim: Claim, picture: Picture) -> dict[str, Any]:
        """Put the picture on disk; returns the image's row."""
        name = image_name(job.id, job.seed, job.image_format)
        path = image_path(self.settings.images_root, job.folder, name)
        facts = {**provenance(picture, self.name), "steps_run": steps_run(job)}
        if flag := facts["flagged"]:
            log.warning("Job %d's picture is %s; `promptmill history --flagged` lists all such.", job.id, flag)
        record = {**parameters(job), **facts, "job": job.id} if self.settings.metadata == "full" else None
        held = partial(self._confirm, job, claim)
        saved = save_image(self._finished(picture, flag), path, metadata=record, confirm=held)
        height, width = picture.pixels.shape[:2]
        where = path.relative_to(self.settings.images_root.resolve()).as_posix()
        return {
            **facts, "path": where, "sha256": saved.sha256, "bytes": saved.bytes, "width": width, "height": height,
            "watermark": self._is_marked(job, path),
        }  # fmt: skip

    def _confirm(self, job: Row[Any], claim: Claim) -> None:
        """The last look before a file gets its name, which by now may be that of another's. Raises ResultLate."""
        if not queries.is_held(self.ledger.engine, claim):
            log.warning("%s was taken away meanwhile; its late result is not saved.", named(job))
            raise ResultLate("Another worker has the job by now.")

    def _finished(self, picture: Picture, flag: str | None) -> Pixels:
        """The pixels as they are saved: hidden where unsafe, and marked."""
        pixels = hide(picture.pixels, self.settings.safety) if flag == UNSAFE else picture.pixels
        return embed(pixels) if self.settings.watermark else pixels

    def _is_marked(self, job: Row[Any], path: Path) -> bool:
        """Whether the watermark can be read in the file: a small picture has none, and lossy formats may blur it."""
        if not self.settings.watermark:
            return False
        marked = is_marked(path)
        if not marked:
            log.info("Job %d's image has no watermark that can be read; docs/safety.md says why.", job.id)
        return marked

    def _end(self, job: Row[Any], claim: Claim, error: BaseException) -> bool:
        """After an error: what happens next is the error's class. Returns whether the job is queued again."""
        self.leases.drop(claim)
        if isinstance(error, CancelledError | JobReturned):
            return bool(self.ledger.release_jobs([claim]))
        if isinstance(error, JobRefused | CheckpointRefused):
            self._refuse(job, claim, error)
            return False
        if isinstance(error, DeviceLost):
            return self._end_alone(job, claim, error)
        log.error("%s met an unexpected error.", named(job), exc_info=error)
        self.breaker.fail(job.batch_id, job.model, cause_of(error), f"{type(error).__name__}: {error}")
        message = "".join(traceback.format_exception(error))
        state = self.ledger.retry_job(claim, cause_of(error), message, self.settings.max_attempts)
        return state is JobState.QUEUED

    def _refuse(self, job: Row[Any], claim: Claim, error: BaseException) -> None:
        """Fail a job; or put it back to wait, when too many of its kind have failed in a row."""
        cause = cause_of(error)
        if self.breaker.fail(job.batch_id, job.model, cause, str(error)):
            self.ledger.hold_jobs(job.batch_id, job.model, cause, str(error))
            self.ledger.release_jobs([claim])
            return
        log.error("%s failed: %s", named(job), error)
        self.ledger.fail_job(claim, cause, str(error))
        self.box.count()

    def _end_alone(self, job: Row[Any], claim: Claim, error: DeviceLost) -> bool:
        """Put back a job that was on a lost device, which it may have killed: sent in a message of its own."""
        state = self.ledger.retry_job(claim, cause_of(error), str(error), self.settings.max_attempts)
        if state is JobState.QUEUED:
            self.send([job.id])
        return False


def named(job: Row[Any]) -> str:
    """As the log speaks of a job."""
    return f"Job {job.id} of batch {job.batch_id}"


def cause_of(error: BaseException) -> str:
    """The ledger's word for why a job failed."""
    return next((word for kind, word in CAUSES.items() if isinstance(error, kind)), "unexpected")


def parameters(job: Row[Any]) -> dict[str, Any]:
    """What was asked for, by the words of the ledger: all that another job needs to be the same."""
    template = {"template": job.template} if job.template else {}
    return {name: getattr(job, name) for name in (*PARAMETERS, "noise", "tags")} | template


def provenance(picture: Picture, worker: str) -> dict[str, Any]:
    """What made the picture, by the words of the ledger."""
    return {
        "seconds": round(picture.seconds, 4),
        "worker": worker,
        "device": picture.device,
        "dtype": picture.dtype,
        "batch_rows": picture.rows,
        "vae_batch": picture.images,
        "exact": picture.exact,
        "flagged": flag_of(picture),
        "safety_score": picture.safety_score,
        "checkpoint_hash": picture.checkpoint_hash,
        "versions": {**VERSIONS, **picture.variant},
    }


def steps_run(job: Row[Any]) -> int:
    """How many steps its image took: fewer than asked from an init image, others on the originals' grid."""
    return steps_taken(job.compat, job.sampler, job.steps, job.strength if job.init_image else None)


def flag_of(picture: Picture) -> str | None:
    """One word for why the picture should be looked at; None where it looks right."""
    if picture.safety_score is not None and picture.safety_score > 0:
        return UNSAFE
    return "flat" if is_flat(picture.pixels) else None


def _sample(job: Row[Any], roots: Roots | None) -> Sample:
    """Raises InitImageRefused."""
    noise = None if job.noise is None else convert(job.noise, Noise)
    init_image, mask_image = admitted(job.init_image, roots), admitted(job.mask_image, roots)
    sampled = {name: getattr(job, name) for name in SAMPLED}
    return Sample(**sampled, noise=noise, init_image=init_image, mask_image=mask_image)
