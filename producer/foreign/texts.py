"""The texts an image file carries, wherever its format has room for them."""

import gzip
import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import DecodeError, json

from producer.picture import open_picture

if TYPE_CHECKING:
    from PIL import Image

EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
#: EXIF tags that hold text, by what they are called here.
TAGS = {0x010E: "ImageDescription", 0x0131: "Software", 0x010F: "Make", 0x0110: "Model", 0x9C9C: "XPComment"}
#: Before the text of a UserComment: its character code (EXIF 2.3, 4.6.5).
UNICODE, ASCII = b"UNICODE\0", b"ASCII\0\0\0"
#: XMP's UserComment, an alternative of languages.
XMP_COMMENT = re.compile(r"<exif:UserComment>.{0,200}?<rdf:li[^>]{0,200}>(.*?)</rdf:li>", re.DOTALL)
#: Characters and keys: more is no recipe.
LONGEST, MOST = 4_000_000, 1000
#: What stands first in the lowest bits of an alpha channel, column by column; then the length in bits, in 32 of them.
STEALTH = {b"stealth_pngcomp": True, b"stealth_pnginfo": False}
MAGIC, COUNT = 15, 4


def read_texts(path: Path) -> dict[str, str]:
    """All texts by their keys. Raises PictureUnreadable."""
    with open_picture(path) as image:
        image.load()
        found = {**dict(_exif(image)), **dict(_chunks(image.info)), **dict(_xmp(image.info))}
        if "Comment" not in found and (hidden := _stealth(image)):
            found = {**found, "Comment": hidden}
    return found


def parse_object(text: str | None) -> dict[str, Any]:
    """The JSON object that a text is; empty where it is none."""
    with suppress(DecodeError, RecursionError):
        found = json.decode(text or "")
        return found if isinstance(found, dict) else {}
    return {}


def _chunks(info: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for key, value in islice(info.items(), MOST):
        if isinstance(key, str) and isinstance(value, str) and len(value) <= LONGEST:
            # A subclass of str, with more to it.
            yield key, str(value)


def _exif(image: "Image.Image") -> Iterator[tuple[str, str]]:
    exif = image.getexif()
    comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT)
    if isinstance(comment, bytes) and (text := decode_comment(comment)):
        yield "UserComment", text
    for tag, name in TAGS.items():
        value = exif.get(tag)
        if isinstance(value, bytes):
            value = value.decode("utf-16-le", "replace").rstrip("\0")
        if isinstance(value, str) and value:
            yield name, value


def decode_comment(comment: bytes) -> str:
    """The text of a UserComment. Its UTF-16 may have either order; that in which blanks are blanks is taken."""
    if comment.startswith(UNICODE):
        body = comment.removeprefix(UNICODE)
        order = "utf-16-be" if body.count(b"\0 ") >= body.count(b" \0") and body[:1] == b"\0" else _order(body)
        return body.decode(order, "replace").removeprefix("\ufeff").rstrip("\0")
    return comment.removeprefix(ASCII).decode("utf-8", "replace").strip("\0")


def _order(body: bytes) -> str:
    high, low = body[::2].count(0), body[1::2].count(0)
    return "utf-16-le" if low > high else "utf-16-be"


def _xmp(info: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or ""
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)
    # Not parsed as XML: entities could be bombs, and one element is all that is wanted.
    if len(text) <= LONGEST and (found := XMP_COMMENT.search(text)):
        yield "xmp:UserComment", html.unescape(found[1])


def _stealth(image: "Image.Image") -> str:
    """What NovelAI hides in the alpha channel of a PNG; empty where there is nothing."""
    import numpy as np

    if image.mode != "RGBA" or image.format != "PNG":
        return ""
    bits = np.asarray(image.getchannel("A")).T.ravel() & 1
    head = np.packbits(bits[: 8 * (MAGIC + COUNT)]).tobytes()
    if head[:MAGIC] not in STEALTH:
        return ""
    size = min(int.from_bytes(head[MAGIC:], "big") // 8, LONGEST)
    start = 8 * (MAGIC + COUNT)
    data = np.packbits(bits[start : start + 8 * size]).tobytes()
    with suppress(OSError, EOFError, ValueError):
        if STEALTH[head[:MAGIC]]:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(LONGEST)
        outer = parse_object(data.decode("utf-8", "replace"))
        return str(outer.get("Comment") or data.decode("utf-8", "replace"))
    return ""
