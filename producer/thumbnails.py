"""Thumbnails: small WebP pictures of images, made once and kept below the home until others need the room.

A thumbnail's name says what it shows, the image's pixels and size, and nothing else: whoever has it has it for good.
"""

import io
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from producer.errors import PictureUnreadable
from producer.numbered_files import draft
from producer.picture import file_of, open_picture

#: Longest side, in pixels.
SIDE = 320
QUALITY = 80
NAME = re.compile(r"[0-9a-f]{64}-[0-9]{1,5}x[0-9]{1,5}")
#: Thumbnails in one of 256 folders; 262,144 in all, about 3 GB.
MOST = 1024


def thumbnail_name(row: Row[Any]) -> str:
    """The name of the thumbnail of a job's image. The size is part of it: a flat picture has its pixels in any."""
    return f"{row.image_sha256}-{row.image_width}x{row.image_height}"


@dataclass(frozen=True)
class Thumbnails:
    """Those that were made, in a folder that anybody may empty at any time."""

    folder: Path

    def read(self, name: str) -> bytes | None:
        """None where there is none yet, or the name is no name."""
        if not NAME.fullmatch(name):
            return None
        with suppress(OSError):
            # A file that lost its content in a power cut is none.
            return self._path(name).read_bytes() or None
        return None

    def make(self, row: Row[Any], root: Path) -> bytes:
        """Make and keep the thumbnail of a job's image.

        Raises:
            PictureUnreadable: there is no such file, or it is broken or hostile.
        """
        path = file_of(row, root)
        if path is None:
            raise PictureUnreadable(f"Job {row.id} has no image.")
        small = shrink(path)
        # On a full disk it is made again, and shown all the same.
        with suppress(OSError):
            self._keep(small, self._path(thumbnail_name(row)))
        return small

    def drop(self, row: Row[Any]) -> None:
        """Remove the thumbnail of an image that is no more; one that has its pixels gets another when it is shown."""
        name = thumbnail_name(row)
        if NAME.fullmatch(name):
            with suppress(OSError):
                self._path(name).unlink()

    def _keep(self, small: bytes, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft(path.parent, path.suffix) as part:
            part.write_bytes(small)
            part.replace(path)
        _make_room(path.parent)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.webp"


def shrink(path: Path) -> bytes:
    """The picture in a file as a small WebP. Raises PictureUnreadable."""
    small = io.BytesIO()
    with open_picture(path) as picture:
        picture.thumbnail((SIDE, SIDE))
        picture.convert("RGB").save(small, "WEBP", quality=QUALITY)
    return small.getvalue()


def _make_room(folder: Path) -> None:
    """Remove the oldest quarter of a folder that is full."""
    if len(os.listdir(folder)) <= MOST:  # noqa: PTH208 - names alone are wanted
        return
    with os.scandir(folder) as entries:
        oldest = sorted(entries, key=lambda entry: entry.stat().st_mtime)[: MOST // 4]
    for entry in oldest:
        with suppress(FileNotFoundError):
            Path(entry.path).unlink()
