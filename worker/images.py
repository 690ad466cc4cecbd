"""Images on disk: saved whole or not at all, named by job and seed alone, with what made them inside.

PNG holds the infotext in the text chunk `parameters` and the record as JSON in the text chunk `promptmill`. JPEG and
WebP hold them in EXIF: the infotext in UserComment, as A1111 does, and the JSON in ImageDescription.
"""

import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image, PngImagePlugin

from configs import watermark
from worker.errors import DiskFull, PathRefused
from worker.infotext import write_infotext
from worker.sample import Pixels

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
RECORD_CHUNK = "promptmill"
INFOTEXT_CHUNK = "parameters"

IMAGE_DESCRIPTION = 0x010E
EXIF_IFD = 0x8769
USER_COMMENT = 0x9286
UNICODE = b"UNICODE\0"
"""The character code that EXIF 2.3, 4.6.5, puts before a Unicode UserComment."""
EXIF_LIMIT = 65_000
"""Bytes: a JPEG segment holds 65,533, the marker's own among them."""

FLAT = 2
"""The most by which a channel of a picture of one colour differs from place to place; rounding makes some."""

NAME = re.compile(r"[0-9A-Za-z][\w.-]*", re.ASCII)
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedImage:
    """An image that is on disk."""

    path: Path
    sha256: str
    """Of the pixels: RGB, rows from the top."""
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What an image says of itself."""

    infotext: str | None
    record: dict[str, Any] | None


def image_name(job_id: int, seed: int, image_format: str) -> str:
    """A name that any file system takes: `00001234-1839201.png`."""
    return f"{job_id:08d}-{seed}{SUFFIXES[image_format]}"


def image_path(root: Path, batch_folder: str, name: str) -> Path:
    """Where an image goes. Raises PathRefused when that is not a file in a folder directly in `root`."""
    for part in (batch_folder, name):
        if not NAME.fullmatch(part) or RESERVED.fullmatch(part) or part.endswith("."):
            raise PathRefused(f"{part!r} cannot be part of an image's path.")
    root = root.resolve()
    folder = (root / batch_folder).resolve()
    if folder.parent != root:
        raise PathRefused(f"The folder {batch_folder!r} leads out of {root}.")
    return folder / name


def save_image(
    pixels: Pixels,
    path: Path,
    *,
    metadata: Mapping[str, Any] | None,
    confirm: Callable[[], object] = lambda: None,
) -> SavedImage:
    """Save pixels (H, W, 3) under `path`, in the format of its suffix; replaces what is there.

    metadata: what made the image, by the ledger's words; goes into the file as JSON and as infotext, or None. confirm:
    called when the file is whole and about to get its name; what it raises leaves what had that name as it was.
    When it returns, file and name are on disk; when it raises, nothing of it is. Raises DiskFull.
    """
    content = encode_image(pixels, path.suffix, metadata)
    with _disk_space(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content, confirm)
    return SavedImage(path=path, sha256=hash_pixels(pixels), bytes=len(content))


def hash_pixels(pixels: Pixels) -> str:
    """sha256 of RGB pixels (H, W, 3), rows from the top."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def is_flat(pixels: Pixels) -> bool:
    """Whether a picture is of one colour: what a black or grey failure looks like."""
    return int(np.ptp(pixels, axis=(0, 1)).max()) <= FLAT


def write_atomically(path: Path, content: bytes, confirm: Callable[[], object] = lambda: None) -> None:
    """Write a file that is there whole or not at all, whatever dies on the way."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        confirm()
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def encode_image(pixels: Pixels, suffix: str, metadata: Mapping[str, Any] | None) -> bytes:
    """The content of an image file of pixels (H, W, 3)."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    texts = (write_infotext(metadata), json.dumps(dict(metadata), default=str)) if metadata else None
    if suffix == SUFFIXES["png"]:
        # Level 1: a quarter less time than level 6 for a tenth more bytes.
        image.save(buffer, "PNG", compress_level=1, pnginfo=texts and _png_chunks(*texts))
    elif suffix == SUFFIXES["jpeg"]:
        image.save(buffer, "JPEG", quality=95, exif=_exif(*texts) if texts else b"")
    elif suffix == SUFFIXES["webp"]:
        image.save(buffer, "WEBP", quality=95, exif=_exif(*texts) if texts else b"")
    else:
        raise PathRefused(f"Images are not saved as {suffix!r}; use one of {', '.join(SUFFIXES.values())}.")
    return buffer.getvalue()


def is_marked(path: Path) -> bool:
    """Whether the watermark can be read in an image file."""
    with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
        return watermark.is_marked(np.asarray(image.convert("RGB")))


def read_metadata(path: Path) -> Metadata:
    """What `save_image` put into the file; None for what is not there. Raises OSError when it is no image."""
    with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
        if isinstance(image, PngImagePlugin.PngImageFile):
            infotext, record = image.text.get(INFOTEXT_CHUNK), image.text.get(RECORD_CHUNK)
        else:
            exif = image.getexif()
            infotext, record = _decode_comment(exif.get_ifd(EXIF_IFD).get(USER_COMMENT)), exif.get(IMAGE_DESCRIPTION)
    return Metadata(infotext=infotext, record=_parse_record(record))


def _png_chunks(infotext: str, record: str) -> PngImagePlugin.PngInfo:
    """Pillow writes Latin-1 text as tEXt and any other as iTXt."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(INFOTEXT_CHUNK, infotext)
    chunks.add_text(RECORD_CHUNK, record)
    return chunks


def _exif(infotext: str, record: str) -> bytes:
    """Both texts; where that is too long for JPEG, the infotext alone, or nothing. The ledger has it all anyway."""
    for texts in ((infotext, record), (infotext, None)):
        content = _exif_block(*texts)
        if len(content) <= EXIF_LIMIT:
            return content
    return b""


def _exif_block(infotext: str, description: str | None) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE + infotext.encode("utf-16-be", "replace")
    if description is not None:
        exif[IMAGE_DESCRIPTION] = description
    return exif.tobytes()


def _decode_comment(comment: object) -> str | None:
    if not isinstance(comment, bytes) or not comment.startswith(UNICODE):
        return None
    return comment.removeprefix(UNICODE).decode("utf-16-be", "replace")


def _parse_record(text: object) -> dict[str, Any] | None:
    try:
        record = json.loads(str(text))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def _disk_space(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"There is no room on the disk of {path.parent}; the job waits for disk space.") from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make the new name durable. Windows cannot open a folder, and does not need to."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
