"""Everything about one job or one image file: what was asked for, and what made it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import ValidationError
from sqlalchemy import Row

from configs.compat import describe_noise
from configs.plain_text import plain
from producer.errors import NoRecord
from producer.foreign.detection import read_recipe
from producer.history import record
from producer.origin import describe_origin
from producer.picture import open_picture
from producer.table import moment, print_fields

#: Where images carry what made them: text chunks of PNG, EXIF tags of JPEG and WebP.
INFOTEXT_CHUNK, RECORD_CHUNK = "parameters", "promptmill"
EXIF_IFD, USER_COMMENT, IMAGE_DESCRIPTION = 0x8769, 0x9286, 0x010E
#: Before the text of a UserComment: its character code (EXIF 2.3, 4.6.5).
UNICODE = b"UNICODE\0"
TIMES = ("started_at", "finished_at", "image_created_at")


@dataclass(frozen=True)
class Metadata:
    """What an image file says of itself; None for what it does not carry."""

    infotext: str | None
    record: dict[str, Any] | None


def read_image(path: Path) -> Metadata:
    """What a worker, or another program that writes infotext, put into an image.

    Raises:
        PictureUnreadable: it is no PNG, JPEG or WebP image, or a broken or a hostile one.
        NoRecord: it carries neither.
    """
    from PIL.PngImagePlugin import PngImageFile

    with open_picture(path) as image:
        found = _from_chunks(image.text) if isinstance(image, PngImageFile) else _from_exif(image.getexif())
    if found.infotext is None and found.record is None:
        raise NoRecord(f"{path} does not say what made it; only images of Promptmill and of A1111's kin do.")
    return found


def read_record(path: Path) -> dict[str, Any]:
    """The record in an image file; empty where there is none. Raises as `read_image` does."""
    try:
        return read_image(path).record or {}
    except NoRecord:
        return {}


def print_job(row: Row[Any], root: Path) -> None:
    """All of a job, and of its image if it has one."""
    fields = record(row, root)
    print_fields(_readable({**fields, **{name: moment(fields[name]) for name in TIMES}}))


def print_image(path: Path) -> None:
    """What an image file says of itself, and its watermark if it has one. Raises NoRecord where there is neither."""
    watermark = find_watermark(path)
    try:
        found = read_image(path)
    except NoRecord:
        found = Metadata(None, None)
    recipe = None if found.record else read_recipe(path)
    if recipe:
        return print_fields({**_readable(recipe.fields()), "watermark": watermark})
    if found == Metadata(None, None) and watermark is None:
        raise NoRecord(f"{path} does not say what made it, or not in a way that is known here.")
    for line in (found.infotext or "").splitlines():
        print(plain(line))
    if found.record:
        print()
    print_fields({**_readable(found.record or {}), "watermark": watermark})


def find_watermark(path: Path) -> str | None:
    """The text of the invisible watermark; None without it. Raises PictureUnreadable."""
    import numpy as np

    from configs.watermark import TEXT, is_marked

    with open_picture(path) as image:
        return TEXT if is_marked(np.asarray(image.convert("RGB"))) else None


def _readable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values (tags, versions) as ``name value, name value``; noise in words."""
    if "noise" in fields:
        with suppress(ValidationError):
            fields = {**fields, "noise": describe_noise(fields["noise"])}
    if fields.get("template"):
        fields = {**fields, "template": describe_origin(fields["template"])}
    return {
        name: ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else value
        for name, value in fields.items()
    }


def _from_chunks(text: Mapping[str, Any]) -> Metadata:
    return Metadata(text.get(INFOTEXT_CHUNK), _parse(text.get(RECORD_CHUNK)))


def _from_exif(exif: Any) -> Metadata:
    comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT)
    infotext = None
    if isinstance(comment, bytes) and comment.startswith(UNICODE):
        infotext = comment.removeprefix(UNICODE).decode("utf-16-be", "replace")
    return Metadata(infotext, _parse(exif.get(IMAGE_DESCRIPTION)))


def _parse(text: object) -> dict[str, Any] | None:
    try:
        found = json.loads(str(text))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
