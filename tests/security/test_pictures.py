"""Pictures made to break what opens them: one sentence, whatever they hold."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image, PngImagePlugin

Call = Callable[..., Result]
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes, *, length: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data) if length is None else length)
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def png(*chunks: bytes, width: int = 8, height: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((3 * 8 + 1) * 8)))
    return SIGNATURE + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def saying(**texts: str) -> bytes:
    """A sound PNG with those text chunks."""
    chunks, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, text in texts.items():
        chunks.add_itxt(name, text)
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def compressed(keyword: bytes, size: int) -> bytes:
    return chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(bytes(size), 9))


def webp_of(width: int, height: int) -> bytes:
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of(width: int, height: int) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x01\x11\0\x02\x11\0\x03\x11\0"
    return b"\xff\xd8" + frame + b"\xff\xda" + b"\0" * 64


HOSTILE = {
    "bomb of pixels": png(width=60_000, height=60_000),
    "bomb just below Pillow's error": png(width=13_000, height=13_000),
    "bomb of a text": png(compressed(b"parameters", 100_000_000)),
    "bombs of many texts": png(*(compressed(b"key%d" % number, 900_000) for number in range(200))),
    "length beyond the end": png(chunk(b"tEXt", b"parameters\0x", length=2**31 - 1)),
    "length beyond everything": png(chunk(b"tEXt", b"parameters\0x", length=2**32 - 1)),
    "wrong checksum": png(chunk(b"tEXt", b"parameters\0x")[:-1] + b"?"),
    "no header": SIGNATURE + chunk(b"IEND", b""),
    "header too short": SIGNATURE + chunk(b"IHDR", b"\0\0"),
    "no pixels": SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)),
    "signature alone": SIGNATURE,
    "empty": b"",
    "zeros": bytes(4096),
    "bad iTXt": png(chunk(b"iTXt", b"parameters\0\x01\x07a\0b\0\xff\xfe")),
    "bad profile": png(chunk(b"iCCP", b"x\0\x09bad")),
    "bad exif": png(chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "big webp": webp_of(16_383, 16_383),
    "cut webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "big jpeg": jpeg_of(65_500, 65_500),
    "cut jpeg": b"\xff\xd8\xff\xe1\xff\xffExif\0\0II*\0\x08\0\0\0\xff\xff",
    "gif": b"GIF89a" + bytes(20),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_picture_is_refused_in_a_sentence(promptmill: Call, content: bytes) -> None:
    Path("x.png").write_bytes(content)
    result = promptmill("show", "x.png")
    assert result.exit_code in {1, 2}
    assert isinstance(result.exception, SystemExit)
    assert (len(result.stderr.splitlines()), result.stderr.startswith("Error: x.png ")) == (1, True)


RECORDS = {
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "huge number": '{"seed": ' + "9" * 5000 + "}",
    "not an object": "[1, 2]",
    "constants": '{"scale": NaN, "steps": Infinity}',
    "halves": '{"prompt": "\\ud800", "\\udfff": 1}',
    "escapes": '{"\\u001b[2J": "\\u001b[31m", "b\\u202e": {"c\\u009b": ["\\u0007"]}, "tags": {"\\u001b": "\\n"}}',
    "many": json.dumps({f"key{number}": "x" for number in range(5000)}),
    "long name": json.dumps({"k" * 100_000: 1, **{str(number): 2 for number in range(100)}}),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_hostile_record_is_shown_without_harm(promptmill: Call, record: str) -> None:
    Path("x.png").write_bytes(saying(promptmill=record, parameters="a cat\x1b[2J\u202e\nSteps: 20, Seed: \x9b31m"))
    result = promptmill("show", "x.png")
    assert result.exit_code == 0
    assert {"\x1b", "\x9b", "\u202e", "\x07"} & set(result.output) == set()
    assert len(result.output) < 400_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: Path(path).symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(promptmill: Call, make: Callable[[str], None]) -> None:
    make("x.png")
    assert promptmill("show", "x.png").exit_code == 2


def test_a_file_that_would_fill_the_memory_is_not_read(promptmill: Call) -> None:
    with Path("x.png").open("wb") as file:
        file.write(SIGNATURE)
        file.truncate(2**40)
    assert "no file of at most 536,870,912 bytes" in promptmill("show", "x.png").stderr
