"""``python -m worker.reproduce``: renders recorded images again at their recorded shape, and compares the pixels.

Reads one JSON object a line from standard input, a `Request`; writes one for each to standard output, a `Reproduction`.
Nothing of it is in the ledger.
"""

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from PIL import Image

from configs.compat import Noise
from configs.errors import ConfigError
from configs.parameters import PRECISIONS
from configs.settings import Settings, get_settings
from configs.watermark import embed
from worker.checkpoints import open_checkpoint, pick_device
from worker.engine import Engine
from worker.errors import WorkerError
from worker.exact import make_deterministic
from worker.images import encode_image, hash_pixels
from worker.init_images import admitted
from worker.layout import Layout
from worker.memory import cap_memory
from worker.plain import PlainCheckpoint
from worker.predictor import Predictor
from worker.progress import Progress
from worker.renderer import Renderer
from worker.renderers import make_fast, make_renderer, make_rooms
from worker.rendering import AnyRenderer
from worker.sample import Form, Picture, Pixels, Sample
from worker.tasks import SAMPLED, provenance


class Request(msgspec.Struct, frozen=True):
    """An image to be made again: a job's parameters, how it was made, and where it is."""

    number: int
    job: dict[str, Any]
    made: dict[str, Any]
    """The image's provenance, by the words of the ledger."""
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
    """Against the file, in dB (10 log10 of 255² by the mean squared difference); None without a file, or if alike."""
    made: dict[str, Any] = {}


class Setup(NamedTuple):
    """What must be the same for all that one engine makes again."""

    rows: int
    images: int
    sampling: str


def reproduce(requests: Sequence[Request], settings: Settings) -> Iterator[Reproduction]:
    """Make them again, those of one setup together."""
    for setup, group in groupby(sorted(requests, key=setup_of), key=setup_of):
        yield from _reproduce_alike(list(group), setup, settings)


def setup_of(request: Request) -> Setup:
    made, versions = request.made, request.made.get("versions") or {}
    sampling = "objects" if versions.get("sampling") == "objects" else "tables"
    return Setup(max(1, int(made.get("batch_rows") or 1)), max(1, int(made.get("vae_batch") or 1)), sampling)


def _reproduce_alike(requests: list[Request], setup: Setup, settings: Settings) -> Iterator[Reproduction]:
    settings = msgspec.structs.replace(
        settings, exact=True, max_rows=setup.rows, sampling=setup.sampling, compile="off"
    )
    engine = Engine(partial(open_at, setup, settings), max_rows=setup.rows, vae_batch=setup.images)
    try:
        futures = []
        for request in requests:
            try:
                futures.append((request, engine.submit(sample_of(request, settings))))
            except (WorkerError, msgspec.ValidationError) as error:
                yield Reproduction(request.number, error=str(error))
        for request, future in futures:
            try:
                yield compare(request, future.result())
            except Exception as error:
                yield Reproduction(request.number, error=str(error) or type(error).__name__)
    finally:
        engine.close(finish=False)


def open_at(setup: Setup, settings: Settings, form: Form, progress: Progress) -> AnyRenderer:
    """What renders with calls of that very shape, however few samples there are."""
    dtype = form.precision or settings.dtype
    checkpoint = open_checkpoint(form.model, device=settings.device, dtype=dtype, offload=settings.offload)
    if isinstance(checkpoint, PlainCheckpoint):
        return make_renderer(checkpoint, settings, progress)
    checkpoint = make_fast(checkpoint, settings)
    rooms = make_rooms(checkpoint, settings)

    def layout(width: int, height: int) -> Layout:
        rooms.of(width, height).vae_batch = setup.images
        return Layout(setup.rows, setup.images, exact=True)

    predictor = Predictor(checkpoint, rooms, progress, switch="off")
    return Renderer(checkpoint, progress, layout, rooms, settings.sampling, predictor)


def sample_of(request: Request, settings: Settings) -> Sample:
    """The sample of a job, in the number format it was made in. Raises InitImageRefused, msgspec.ValidationError."""
    job = request.job
    noise = None if job.get("noise") is None else msgspec.convert(job["noise"], Noise)
    files = {name: admitted(job.get(name), settings.roots) for name in ("init_image", "mask_image")}
    sampled = {name: job[name] for name in SAMPLED if job.get(name) is not None}
    made_in = request.made.get("dtype")
    precision = made_in if made_in in PRECISIONS else job.get("precision")
    return Sample(**{**sampled, "precision": precision, "noise": noise, **files})


def compare(request: Request, picture: Picture) -> Reproduction:
    """The new picture beside the recorded one."""
    pixels = embed(picture.pixels) if request.made.get("watermark") else picture.pixels
    if request.keep:
        Path(request.keep).write_bytes(encode_image(pixels, ".png", None))
    psnr = compare_file(Path(request.file), pixels) if request.file else None
    return Reproduction(request.number, sha256=hash_pixels(pixels), psnr=psnr, made=provenance(picture, ""))


def compare_file(path: Path, pixels: Pixels) -> float | None:
    """PSNR of the file against the pixels as they are when saved in its format; None where it cannot be taken."""
    with suppress(OSError, ValueError, Image.DecompressionBombError), Image.open(path) as image:
        if image.size != (pixels.shape[1], pixels.shape[0]):
            return None
        recorded = np.asarray(image.convert("RGB"), np.float64)
        with Image.open(io.BytesIO(encode_image(pixels, path.suffix, None))) as saved:
            again = np.asarray(saved.convert("RGB"), np.float64)
        error = float(np.mean((recorded - again) ** 2))
        return round(float(10 * np.log10(255**2 / error)), 2) if error else None
    return None


def read_requests(lines: Iterable[bytes]) -> list[Request]:
    return [msgspec.json.decode(line, type=Request) for line in lines]


def main() -> None:
    """Answer the requests of standard input."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        settings = get_settings()
        make_deterministic()
        cap_memory(pick_device(settings.device), settings.vram)
        for found in reproduce(read_requests(sys.stdin.buffer), settings):
            sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
            sys.stdout.flush()
    except (ConfigError, WorkerError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
