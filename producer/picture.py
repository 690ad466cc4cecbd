"""Picture files as others may have left them: opened without trust, and compared with what the ledger says of them."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import Row

from producer.errors import PictureUnreadable

if TYPE_CHECKING:
    from PIL import Image

#: How a whole file of each format begins and ends; the fill of a WebP file is counted at its start.
ENDS = {
    "png": (b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"),
    "jpg": (b"\xff\xd8\xff", b"\xff\xd9"),
    "webp": (b"RIFF", b""),
}
#: Of the files that images are saved in.
SUFFIXES = {".png", ".jpg", ".webp"}
#: Those that keep the very pixels.
LOSSLESS = (".png",)
#: Bytes; a picture of 4096x4096 that cannot be compressed has 50 million.
LARGEST = 1 << 29
#: What Pillow raises for broken and for hostile files.
BROKEN = (OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError)


class Flaw(NamedTuple):
    """What is wrong with the file of an image."""

    kind: Literal["missing", "truncated", "altered"]
    detail: str


def file_of(row: Row[Any], root: Path) -> Path | None:
    """Where a job's image should be; None where it has none, or the ledger leads out of the images' folder."""
    path = (root / row.image_path).resolve() if row.image_path else None
    return path if path and path.suffix in SUFFIXES and path.is_relative_to(root.resolve()) else None


@contextmanager
def open_picture(path: Path) -> "Iterator[Image.Image]":
    """Open a PNG, JPEG or WebP file that may be anything.

    Raises:
        PictureUnreadable: it is none, it is broken, or it would fill the memory; so do errors of the block.
    """
    from PIL import Image

    try:
        if path.stat().st_size > LARGEST or not path.is_file():
            raise OSError(f"it is no file of at most {LARGEST:,} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
                yield image
    except (*BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        said = getattr(error, "strerror", None) or str(error)
        reason = next(iter(said.rstrip(".").splitlines()), "") or type(error).__name__
        raise PictureUnreadable(f"{path} cannot be read as a PNG, JPEG or WebP image: {reason:.200}.") from error


def find_flaw(path: str, row: Row[Any], *, deep: bool) -> Flaw | None:
    """What is wrong with an image's file; None where it is as the ledger says.

    Size, start and end of the file are looked at; where these are odd, or ``deep`` is asked for, every pixel.
    """
    try:
        sound = _looks_sound(path, row.image_bytes)
    except OSError as error:
        return Flaw("missing", error.strerror or str(error))
    return None if sound and not deep else _compare_pixels(Path(path), row, resized=not sound)


def _looks_sound(path: str, size: int) -> bool:
    """Whether a file has that size, and the start and end of its format."""
    head, tail = ENDS.get(path.rpartition(".")[2], (b"", b""))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size != size:
            return False
        end = os.pread(descriptor, len(tail), max(0, size - len(tail)))
        return os.pread(descriptor, len(head), 0) == head and end == tail
    finally:
        os.close(descriptor)


def _compare_pixels(path: Path, row: Row[Any], *, resized: bool) -> Flaw | None:
    size = row.image_width, row.image_height
    try:
        with open_picture(path) as image:
            if image.size != size:
                return Flaw("altered", f"is {image.width}x{image.height} and not {size[0]}x{size[1]}")
            found = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
    except PictureUnreadable as error:
        return Flaw("truncated", str(error.__cause__))
    if path.suffix in LOSSLESS:
        return None if found == row.image_sha256 else Flaw("altered", "has other pixels")
    return Flaw("altered", "has another size in bytes") if resized and not _is_late(path, row) else None


def _is_late(path: Path, row: Row[Any]) -> bool:
    """Whether it is a late result of the job: the same image, whose record tells of another run than the ledger."""
    from producer.show import read_record

    found = read_record(path)
    run = found.get("worker"), found.get("seconds")
    return found.get("job") == row.id and run != (row.image_worker, row.image_seconds)
