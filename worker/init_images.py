"""Init images: the pictures that samples begin from, as RGB pixels of the samples' size."""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from configs.errors import InvalidParameter
from configs.init_images import open_picture
from configs.roots import Roots
from worker.errors import InitImageRefused
from worker.sample import Pixels, Sample

Ground: TypeAlias = Literal["white", "black"] | None
DEEP = 257
"""16-bit levels of one 8-bit level."""
KEPT = 4
"""Pictures: one is often that of many jobs. The largest takes 50 MB."""


def open_init_image(sample: Sample) -> Pixels:
    """The sample's init image, upright and stretched to its size, (H, W, 3). Raises InitImageRefused.

    It lies on white; the original scripts left transparency out, and took the colours under it.
    """
    assert sample.init_image is not None
    return read_pixels(sample.init_image, sample.width, sample.height, None if sample.compat else "white")


def read_pixels(path: Path, width: int, height: int, ground: Ground) -> Pixels:
    """A picture, stretched; what of it is transparent shows the ground, if any. Raises InitImageRefused."""
    try:
        return _read(path, path.stat().st_mtime_ns, width, height, ground)
    except FileNotFoundError as error:
        raise InitImageRefused(f"The init image {path} is not there any more; put it back, and retry.") from error
    except (InvalidParameter, OSError, ValueError) as error:
        raise InitImageRefused(f"The init image {error}.") from error


@lru_cache(maxsize=KEPT)
def _read(path: Path, changed: int, width: int, height: int, ground: Ground) -> Pixels:  # noqa: ARG001 - of one state of the file
    """Kept, so nobody may write into it."""
    with open_picture(path) as opened:
        image = _flatten(_to_8_bits(ImageOps.exif_transpose(opened), opened.format), ground)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _to_8_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Pillow cuts off what is above 255 where it converts 16-bit grey, which some of its releases call I in a PNG."""
    if not (image.mode.startswith("I;16") or (image.mode, kind) == ("I", "PNG")):
        return image
    levels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((levels + DEEP // 2) // DEEP).astype(np.uint8))


def _flatten(image: Image.Image, ground: Ground) -> Image.Image:
    """As RGB. Colours under full transparency are arbitrary, often black, and nobody has seen them."""
    if image.mode in ("I", "F"):
        raise ValueError("it has numbers of 32 bits, whose white is not known; save it with 8 or 16 bits")
    if ground is None or not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")


def picture_digests(sample: Sample) -> dict[str, str | bool]:
    """The sha256 of the files of its init image and mask, each where there is one. Raises InitImageRefused."""
    pictures = {"init_image": sample.init_image, "mask_image": sample.mask_image}
    try:
        return {name: _digest(path, path.stat().st_mtime_ns) for name, path in pictures.items() if path}
    except OSError as error:
        lost = f"The init image {error.filename} is not there any more"
        raise InitImageRefused(f"{lost}; put it back, and retry.") from error


@lru_cache(maxsize=256)
def _digest(path: Path, changed: int) -> str:  # noqa: ARG001 - of one state of the file
    return sha256(path.read_bytes()).hexdigest()


def admitted(name: str | None, roots: Roots | None) -> Path | None:
    """The path of a picture that a job names; roots: where it may lie. Raises InitImageRefused."""
    if not name:
        return None
    try:
        return roots.admit(Path(name)) if roots else Path(name)
    except InvalidParameter as error:
        raise InitImageRefused(f"{error}; move it there, or set init_roots for the worker.") from error
