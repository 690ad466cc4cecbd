"""Init images and masks as files: opened without trust in who named them, and the size that they give an image.

Imports no torch. Pillow is imported where a picture is opened: commands that open none start without it.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import InvalidParameter

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow knows more, some of which start other programs."""
MULTIPLE = 8
"""Of pixels: sides of images are."""
SHORTEST, LONGEST = 64, 4096
ORIENTATION, UPRIGHT = 0x0112, 4
"""The EXIF tag; above this value, width and height change places."""
PNG_EXIF = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
"""Where a PNG's may stand, if it does not stand behind its pixels."""


@contextmanager
def open_picture(path: Path) -> "Iterator[Image.Image]":
    """Open a picture that may be anything. Of one with several frames or pages it is the first.

    Raises:
        InvalidParameter: it is none, it is broken, or would fill the memory; so do errors of the block.
    """
    from PIL import Image

    try:
        if not path.is_file():
            raise OSError("there is no such file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow warns from its limit on, and refuses only twice as many pixels.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidParameter(f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller") from error
    except Exception as error:  # A broken file may make Pillow raise anything.
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InvalidParameter(f"{path} cannot be read as a picture: {reason:.200}") from error


def picture_size(path: str) -> tuple[int, int]:
    """Width and height of a picture as it is to be seen: some are stored lying on their side.

    Its pixels are not read. Raises InvalidParameter.
    """
    try:
        changed = Path(path).stat().st_mtime_ns
    except (OSError, ValueError):
        changed = 0
    return _picture_size(path, changed)


@lru_cache(maxsize=4096)
def _picture_size(path: str, changed: int) -> tuple[int, int]:  # noqa: ARG001 - what is kept holds for one state of the file
    with open_picture(Path(path)) as image:
        return (image.height, image.width) if _is_lying(image) else image.size


def fit_size(picture: tuple[int, int], multiple: int, width: int | None, height: int | None) -> tuple[int, int]:
    """The size of an image made from a picture: what is given, else the picture's own, in its proportions.

    Sides that are not given are rounded down to a multiple. Raises InvalidParameter where no allowed size is left.
    """
    if width is not None and height is not None:
        return width, height
    if width is not None:
        sides = width, picture[1] * width // picture[0]
    elif height is not None:
        sides = picture[0] * height // picture[1], height
    else:
        sides = picture
    found = width or _round_down(sides[0], multiple), height or _round_down(sides[1], multiple)
    if min(found) < SHORTEST or max(found) > LONGEST:
        sides_allowed = f"sides of {SHORTEST} to {LONGEST} are allowed; give width and height"
        raise InvalidParameter(f"it has {picture[0]}x{picture[1]} pixels, and {sides_allowed}")
    return found


def multiple_of(compat: str | None, factor: int) -> int:
    """What sides are rounded down to multiples of; factor: what the checkpoint needs."""
    from configs.compat import INIT_MULTIPLES

    return next((multiple for mode, multiple in INIT_MULTIPLES.items() if mode == compat), math.lcm(MULTIPLE, factor))


def _round_down(side: int, multiple: int) -> int:
    return side - side % multiple


def _is_lying(image: Any) -> bool:
    # Whether a PNG has it behind its pixels is not worth reading them all.
    if image.format == "PNG" and not PNG_EXIF & image.info.keys():
        return False
    return bool(image.getexif().get(ORIENTATION, 1) > UPRIGHT)
