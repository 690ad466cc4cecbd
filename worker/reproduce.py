"""``python -m worker.reproduce``: renders recorded images again as they were made, and compares the pixels.

Reads one JSON object a line from standard input, a `Request`; writes one for each to standard output, a `Reproduction`.
Nothing of it is in the ledger.
"""

import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import click
import msgspec
import numpy as np
from PIL import Image

from configs.compat import Noise
from configs.errors import ConfigError
from configs.settings import Settings, get_settings
from configs.watermark import embed
from worker.checkpoints import pick_device
from worker.errors import WorkerError
from worker.exact import make_deterministic
from worker.hiding import hide
from worker.images import SUFFIXES, encode_image, hash_pixels, save_image
from worker.init_images import admitted
from worker.making import Making, Studio, read_making
from worker.memory import cap_memory
from worker.predictor import keep_compiled
from worker.renderers import COMPILED
from worker.sample import Picture, Pixels, Sample
from worker.tasks import SAMPLED, UNSAFE, provenance

log = logging.getLogger(__name__)


class Request(msgspec.Struct, frozen=True):
    """An image to be made again: a job's parameters, how it was made, and where it is."""

    number: int
    job: dict[str, Any]
    made: dict[str, Any]
    """The image's provenance, by the words of the ledger."""
    sha256: str | None = None
    """Of its pixels."""
    file: str | None = None
    """Its file, where there is one to compare with."""
    keep: str | None = None
    """Where the new picture goes."""


class Reproduction(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it."""

    number: int
    error: str | None = None
    """Why there is no new picture."""
    sha256: str | None = None
    """Of its pixels, as `worker.images` takes it."""
    psnr: float | None = None
    """Against the file, in dB (10 log10 of 255² by the mean squared difference); None where there is none."""
    alike: bool = False
    """Whether the file has the very pixels that the new picture has when it is saved so."""
    made: dict[str, Any] = {}


def reproduce(requests: Sequence[Request], settings: Settings) -> Iterator[Reproduction]:
    """Make them again, those that were made alike together."""
    studio, sorted_out = Studio(settings), []
    for request in requests:
        try:
            sample = sample_of(request, settings)
            sorted_out.append((read_making(sample.model, sample.precision, request.made), sample, request))
        except (WorkerError, msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
            yield Reproduction(request.number, error=_told(error))
    sorted_out.sort(key=lambda found: repr((found[0], found[1].shape)))
    for (making, _), alike in groupby(sorted_out, key=lambda found: (found[0], found[1].shape)):
        _, samples, wanting = zip(*alike, strict=True)
        yield from _reproduce_alike(studio, making, samples, wanting)


def _reproduce_alike(
    studio: Studio, making: Making, samples: Sequence[Sample], requests: Sequence[Request]
) -> Iterator[Reproduction]:
    pending = iter(requests)
    try:
        for found in studio.render(making, samples):
            yield _conclude(next(pending), found)
    except Exception as error:
        yield from (_failed(request, error) for request in pending)


def _conclude(request: Request, found: Picture | Exception) -> Reproduction:
    try:
        return compare(request, found) if isinstance(found, Picture) else _failed(request, found)
    except Exception as error:
        return _failed(request, error)


def _failed(request: Request, error: Exception) -> Reproduction:
    if not isinstance(error, WorkerError):
        log.error("An image met an unexpected error.", exc_info=error)
    return Reproduction(request.number, error=_told(error))


def _told(error: Exception) -> str:
    said = str(error).partition("\n")[0]
    return said if isinstance(error, WorkerError) else f"{type(error).__name__}: {said}"


def sample_of(request: Request, settings: Settings) -> Sample:
    """The sample of a job. Raises InitImageRefused, msgspec.ValidationError, TypeError."""
    job = request.job
    noise = None if job.get("noise") is None else msgspec.convert(job["noise"], Noise)
    sampled = {name: job[name] for name in SAMPLED if job.get(name) is not None}
    init_image, mask_image = (admitted(job.get(name), settings.roots) for name in ("init_image", "mask_image"))
    return Sample(**sampled, noise=noise, init_image=init_image, mask_image=mask_image)


def compare(request: Request, picture: Picture) -> Reproduction:
    """The new picture beside the recorded one."""
    pixels = finished(picture.pixels, request.made, request.sha256)
    made = provenance(picture, "")
    if request.keep:
        save_image(pixels, Path(request.keep), metadata={**request.job, **made})
    error = compare_file(Path(request.file), pixels) if request.file else None
    psnr = round(float(10 * np.log10(255**2 / error)), 2) if error else None
    return Reproduction(request.number, sha256=hash_pixels(pixels), psnr=psnr, alike=error == 0, made=made)


def finished(pixels: Pixels, made: Mapping[str, Any], sha256: str | None) -> Pixels:
    """The pixels as they were saved: marked, or hidden.

    The record says neither how a picture was hidden, nor of a mark that was lost in the file; the hash does.
    """
    ways = ("flag", "blur", "black") if made.get("flagged") == UNSAFE else ("flag",)
    forms = (form for way in ways for shown in [hide(pixels, way)] for form in (shown, embed(shown)))  # type: ignore[arg-type]
    expected = embed(pixels) if made.get("watermark") else pixels
    return next((form for form in forms if hash_pixels(form) == sha256), expected)


def compare_file(path: Path, pixels: Pixels) -> float | None:
    """Mean squared difference of the file and the pixels as they are when saved in its format; None without any."""
    with suppress(OSError, ValueError, Image.DecompressionBombError), _open(path) as image:
        if image.size != (pixels.shape[1], pixels.shape[0]):
            return None
        recorded = np.asarray(image.convert("RGB"), np.float64)
        with _open(io.BytesIO(encode_image(pixels, SUFFIXES[str(image.format).lower()], None))) as saved:
            return float(np.mean((recorded - np.asarray(saved.convert("RGB"), np.float64)) ** 2))
    return None


def _open(file: Path | io.BytesIO) -> Image.Image:
    return Image.open(file, formats=("PNG", "JPEG", "WEBP"))


@contextmanager
def answering() -> Iterator[IO[bytes]]:
    """Standard output for answers alone: what libraries print goes where errors go."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield answers


@click.command(help=__doc__)
@click.option("--exact", is_flag=True, help="As images of exact mode are made.")
def main(exact: bool) -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        settings = get_settings()
        if exact:
            make_deterministic()
        keep_compiled(settings.home / COMPILED)
        cap_memory(pick_device(settings.device), settings.vram)
        requests = [msgspec.json.decode(line, type=Request) for line in sys.stdin.buffer]
        with answering() as answers:
            for found in reproduce(requests, settings):
                answers.write(msgspec.json.encode(found) + b"\n")
                answers.flush()
    except (ConfigError, WorkerError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
