"""Thumbnails: small, kept, bounded, and none of what is no picture."""

import io
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from producer import thumbnails
from producer.errors import PictureUnreadable
from producer.thumbnails import Thumbnails, thumbnail_name


def job(path: str, sha256: str = "ab" * 32) -> Any:
    return SimpleNamespace(id=1, image_path=path, image_sha256=sha256, image_width=640, image_height=400)


def as_bomb(png: bytes) -> bytes:
    """The same file, whose header asks for 60,000 pixels a side."""
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Image.new("RGB", (640, 400), "red").save(tmp_path / "cat.png")
    return tmp_path


def test_a_thumbnail_is_made_once(root: Path) -> None:
    kept, row = Thumbnails(root / "small"), job("cat.png")
    assert kept.read(thumbnail_name(row)) is None
    made = kept.make(row, root)
    (root / "cat.png").unlink()
    assert kept.read(thumbnail_name(row)) == made
    with Image.open(io.BytesIO(made)) as image:
        assert (image.format, image.size) == ("WEBP", (320, 200))


@pytest.mark.parametrize("path", ["../cat.png", "/etc/hostname", "gone.png", "broken.png", "bomb.png"])
def test_what_is_no_image_of_ours_has_none(root: Path, path: str) -> None:
    (root / "inside").mkdir()
    (root / "inside" / "broken.png").write_bytes((root / "cat.png").read_bytes()[:60])
    (root / "inside" / "bomb.png").write_bytes(as_bomb((root / "cat.png").read_bytes()))
    with pytest.raises(PictureUnreadable):
        Thumbnails(root / "small").make(job(path), root / "inside")
    assert not (root / "small").exists()


def test_a_thumbnail_goes_with_its_image(root: Path) -> None:
    kept, row = Thumbnails(root / "small"), job("cat.png")
    kept.make(row, root)
    kept.drop(row)
    kept.drop(row)
    assert kept.read(thumbnail_name(row)) is None


@pytest.mark.parametrize("name", ["../../cat", "ab", "ab" * 32 + "-1x1/../x", ""])
def test_what_is_no_name_reads_no_file(root: Path, name: str) -> None:
    assert Thumbnails(root).read(name) is None


def test_the_oldest_make_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MOST", 4)
    kept = Thumbnails(root / "small")
    rows = [job("cat.png", f"{number:064x}") for number in range(6)]
    for row in rows:
        kept.make(row, root)
    assert len(list((root / "small" / "00").iterdir())) <= 4
    assert kept.read(thumbnail_name(rows[-1]))
    assert kept.read(thumbnail_name(rows[0])) is None


def test_a_full_disk_costs_the_keeping_alone(root: Path) -> None:
    (root / "small").touch()
    assert Thumbnails(root / "small").make(job("cat.png"), root)
