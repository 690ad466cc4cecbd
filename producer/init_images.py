"""The init image and the mask of a row: whether they may and can be read, and the size that they give its images."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.checkpoints import geometry
from configs.errors import InvalidParameter
from configs.init_images import fit_size, multiple_of, picture_size
from configs.roots import Roots
from producer.columns import PICTURES


def find_faults(row: Mapping[str, Any], roots: Roots | None) -> Iterator[tuple[str, str]]:
    """What is wrong with the pictures that a row names: the parameter, and why. roots: where they may lie."""
    for name in PICTURES:
        try:
            check_picture(row.get(name), roots)
        except InvalidParameter as error:
            yield name, str(error)


def check_picture(path: str | None, roots: Roots | None) -> None:
    """Raises InvalidParameter where a picture may not or cannot be read; its pixels are left to the worker."""
    if path is None:
        return
    if roots:
        roots.admit(Path(path))
    picture_size(path)


def size_from(row: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of a row's images, of which it may give one or both, from its init image.

    Raises InvalidParameter where no allowed size follows.
    """
    multiple = multiple_of(row.get("compat"), geometry(row["model"]).factor)
    return fit_size(picture_size(row["init_image"]), multiple, row.get("width"), row.get("height"))
