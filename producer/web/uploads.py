"""Pictures that browsers send: opened without trust, written anew, and kept under the digest of what was written."""

import hashlib
import io
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image, ImageOps
from sqlalchemy import Engine

from configs.errors import InvalidParameter
from configs.init_images import open_picture
from configs.settings import Settings
from db.inspection import pictures_below
from producer.errors import DiskTooSmall

#: Bytes and pixels of a picture that is taken: twice what a side of 4096 allows.
MOST_BYTES, MOST_PIXELS = 32 * 2**20, 2 * 4096 * 4096
#: Seconds for which a picture is kept that nobody has used.
DAY = 86_400.0
DIGEST = re.compile(r"[0-9a-f]{64}")


class Crop(NamedTuple):
    """The part of a picture that is wanted, in pixels; without width or height, up to its edge."""

    left: int = 0
    top: int = 0
    width: int = 0
    height: int = 0


class Uploads:
    """Those of one home."""

    def __init__(self, settings: Settings) -> None:
        # Another ledger's jobs may name pictures of this home, too.
        self._is_own = settings.database_url is None
        self._watermark = settings.disk_watermark_mb * 2**20
        self.folder = settings.home.expanduser().resolve() / "uploads"
        if (roots := settings.roots) and not any(self.folder.is_relative_to(root) for root in roots):
            # Where workers may read pictures from, and others may keep some.
            self.folder, self._is_own = roots[0] / "uploads", False

    def path(self, digest: str) -> Path:
        """Where a kept picture lies. Raises InvalidParameter where there is none."""
        found = self.folder / f"{digest}.png"
        if not DIGEST.fullmatch(digest) or not found.is_file():
            raise InvalidParameter("is not kept here any more; choose it once more")
        found.touch()
        return found

    def digest_of(self, path: str | None) -> str:
        """The digest of a job's picture, if it is one of these."""
        found = Path(path or "")
        is_ours = found.parent == self.folder and DIGEST.fullmatch(found.stem)
        return found.stem if is_ours and found.is_file() else ""

    def take(self, content: bytes, mode: Literal["RGB", "L"] = "RGB") -> str:
        """Keep what somebody has sent; its digest. Raises InvalidParameter, DiskTooSmall."""
        if len(content) > MOST_BYTES:
            raise InvalidParameter(f"has more than {MOST_BYTES // 2**20} MB; make it smaller")
        with tempfile.TemporaryDirectory(prefix="promptmill-") as folder:
            file = Path(folder, "picture")
            file.write_bytes(content)
            try:
                return self.copy(file, mode)
            except InvalidParameter as error:
                # Its path means nothing to who sent it.
                raise InvalidParameter(str(error).replace(f"{file} ", "").replace(f" {str(file)!r}", "")) from error

    def copy(self, path: Path, mode: Literal["RGB", "L"] = "RGB", crop: Crop | None = None) -> str:
        """Keep a picture, or a part of it; its digest. Raises InvalidParameter, DiskTooSmall."""
        with open_picture(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InvalidParameter(f"it has more than {MOST_PIXELS:,} pixels")
            upright = ImageOps.exif_transpose(image).convert(mode)
        return self._keep(upright.crop(_box(upright, crop)) if crop else upright)

    def tidy(self, engine: Engine) -> int:
        """Remove pictures that no job names and nobody has used for a day; their number."""
        if not (self._is_own and self.folder.is_dir()):
            return 0
        kept, before, removed = pictures_below(engine, str(self.folder)), time.time() - DAY, 0
        for path in self.folder.glob("*.p*"):
            with suppress(OSError):
                if str(path) not in kept and path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed

    def _keep(self, image: Image.Image) -> str:
        written = io.BytesIO()
        image.save(written, "PNG", compress_level=3)
        content = written.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < self._watermark + len(content):
            raise DiskTooSmall("There is no room for the picture on the disk; make some, and send it once more.")
        path = self.folder / f"{digest}.png"
        if path.exists():
            path.touch()
        else:
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as part:
                part.write(content)
            Path(part.name).replace(path)
        return digest


def read_crop(given: Mapping[str, str]) -> Crop | None:
    """The four numbers of a form; None where nothing is cut away. Raises InvalidParameter."""
    numbers = []
    for name in ("crop_left", "crop_top", "crop_width", "crop_height"):
        value = given.get(name, "").strip() or "0"
        if not re.fullmatch(r"[0-9]{1,5}", value):
            raise InvalidParameter(f"{value!r:.20} is not a number of pixels")
        numbers.append(int(value))
    return Crop(*numbers) if any(numbers) else None


def _box(image: Image.Image, crop: Crop) -> tuple[int, int, int, int]:
    """Raises InvalidParameter."""
    right = crop.left + crop.width if crop.width else image.width
    bottom = crop.top + crop.height if crop.height else image.height
    right, bottom = min(right, image.width), min(bottom, image.height)
    if right - crop.left < 8 or bottom - crop.top < 8:
        raise InvalidParameter(f"the part lies outside of the picture, which has {image.width}x{image.height} pixels")
    return crop.left, crop.top, right, bottom
