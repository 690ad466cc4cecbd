"""What is known of a job and its image, in words, with links to all that share it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import Any, NamedTuple

from msgspec import ValidationError
from sqlalchemy import Row

from configs.compat import describe_noise
from producer.origin import describe_origin
from producer.report_page import duration
from producer.table import moment
from producer.web.links import all_with


class Fact(NamedTuple):
    """A name and what it is; ``link`` leads to all jobs with the same."""

    name: str
    value: str
    link: str = ""


def asked(job: Row[Any]) -> Iterator[Fact]:
    """The parameters, without those that do nothing here."""
    size = f"{job.width}x{job.height}"
    yield Fact("Model", job.model, all_with("model", job.model))
    yield Fact("Sampler", job.sampler, all_with("sampler", job.sampler))
    taken = f" ({job.image_steps_run} taken)" if job.image_steps_run not in (None, job.steps) else ""
    yield Fact("Steps", f"{job.steps}{taken}", all_with("steps", job.steps))
    yield Fact("Scale", f"{job.scale:g}", all_with("scale", job.scale))
    yield Fact("Size", size.replace("x", "×"), all_with("size", size))
    yield Fact("Seed", str(job.seed), all_with("seed", job.seed))
    if job.init_image:
        yield Fact("Init image", PurePath(job.init_image).name)
        yield Fact("Strength", f"{job.strength:g}", all_with("strength", job.strength))
    if job.mask_image:
        yield Fact("Mask", PurePath(job.mask_image).name)
    if job.eta:
        yield Fact("Eta", f"{job.eta:g}", all_with("eta", job.eta))
    yield from _seldom(job)


def _seldom(job: Row[Any]) -> Iterator[Fact]:
    if job.precision:
        yield Fact("Precision", job.precision)
    if job.compat:
        yield Fact("Compat", job.compat)
    if job.weights:
        yield Fact("Weights", "on")
    if job.noise:
        with suppress(ValidationError):
            yield Fact("Noise", describe_noise(job.noise))
    if job.template:
        yield Fact("Template", describe_origin(job.template))


def made(job: Row[Any]) -> Iterator[Fact]:
    """Where the image comes from: the batch, the worker, and what was on the way."""
    yield Fact("Job", f"{job.id:,}")
    yield Fact("Batch", f"{job.batch_id}, {job.batch}", f"/history?q=batch:{job.batch_id}")
    yield Fact("Line", f"{job.line}, image {job.image_index + 1}")
    yield Fact("Attempts", str(job.attempts))
    if job.image_path:
        yield from _provenance(job)


def _provenance(job: Row[Any]) -> Iterator[Fact]:
    yield Fact("Made", moment(job.image_created_at))
    yield Fact("Took", duration(job.image_seconds))
    yield Fact("Worker", job.image_worker, all_with("worker", job.worker) if job.worker else "")
    yield Fact("Device", f"{job.image_device}, {job.image_dtype}")
    company = "exact" if job.image_exact else f"in calls of up to {job.image_batch_rows} rows"
    yield Fact("Calls", company)
    yield Fact("File", f"{PurePath(job.image_path).name}, {job.image_bytes:,} bytes")
    yield Fact("Pixels", f"{job.image_width}×{job.image_height}")
    if job.image_watermark:
        yield Fact("Watermark", "yes")
    if job.image_flagged:
        score = f" {job.image_safety_score:+.3f}" if job.image_safety_score is not None else ""
        yield Fact("Flagged", f"{job.image_flagged}{score}", all_with("flagged", job.image_flagged))
    yield Fact("Checkpoint", job.image_checkpoint_hash)
    yield Fact("SHA-256 of the pixels", job.image_sha256)
    yield Fact("Versions", ", ".join(f"{name} {value}" for name, value in job.image_versions.items()))
