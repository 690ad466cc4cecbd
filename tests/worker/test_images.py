import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs.infotext import parse_infotext
from worker.errors import DiskFull, PathRefused
from worker.images import hash_pixels, image_name, image_path, is_flat, read_metadata, save_image
from worker.sample import Pixels

METADATA = {
    "prompt": "a café, on the moon 🌙",
    "negative_prompt": "blurry",
    "model": "demo",
    "sampler": "DPM++ 2M Karras",
    "steps": 25,
    "scale": 7.5,
    "width": 24,
    "height": 16,
    "seed": 42,
    "checkpoint_hash": "0123456789abcdef",
    "tags": {"colour": "红"},
}


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_image_tells_what_made_it(tmp_path: Path, pixels: Pixels, suffix: str) -> None:
    saved = save_image(pixels, tmp_path / f"image.{suffix}", metadata=METADATA)
    found = read_metadata(saved.path)
    assert found.record == METADATA
    assert parse_infotext(found.infotext or "")["Prompt"] == METADATA["prompt"]


def test_a_png_holds_the_very_pixels(tmp_path: Path, pixels: Pixels) -> None:
    saved = save_image(pixels, tmp_path / "image.png", metadata=METADATA)
    with Image.open(saved.path) as image:
        assert np.array_equal(np.asarray(image), pixels)
    assert saved.sha256 == hash_pixels(pixels)
    assert saved.bytes == saved.path.stat().st_size


@pytest.mark.parametrize(("spread", "flat"), [(0, True), (2, True), (3, False)])
def test_a_picture_is_flat_when_no_channel_varies(spread: int, flat: bool) -> None:
    image = np.full((16, 24, 3), (0, 128, 250), dtype=np.uint8)
    image[4, 5, 1] += spread
    assert is_flat(image) is flat


def test_a_folder_is_made_and_nothing_else_left_in_it(tmp_path: Path, pixels: Pixels) -> None:
    save_image(pixels, tmp_path / "batch" / "image.png", metadata=METADATA)
    assert list(tmp_path.rglob("*.*")) == [tmp_path / "batch" / "image.png"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_save_that_dies_leaves_no_file(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die) if moment == "fsync" else monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        save_image(pixels, tmp_path / "image.png", metadata=METADATA)
    assert list(tmp_path.iterdir()) == []


def test_a_second_save_replaces_the_first(tmp_path: Path, pixels: Pixels) -> None:
    for content in (pixels, 255 - pixels):
        saved = save_image(content, tmp_path / "image.png", metadata=METADATA)
    with Image.open(saved.path) as image:
        assert np.array_equal(np.asarray(image), 255 - pixels)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_waited_for(tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *_: real_open(Path("/dev/full"), "wb", 0) if path else None)
    with pytest.raises(DiskFull, match="waits for disk space"):
        save_image(pixels, tmp_path / "image.png", metadata=METADATA)
    assert list(tmp_path.iterdir()) == []


def test_other_disk_errors_keep_their_class(tmp_path: Path, pixels: Pixels) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(FileExistsError):
        save_image(pixels, tmp_path / "folder" / "image.png", metadata=METADATA)


@pytest.mark.parametrize("letter", ["x", "红", "🌙"])
def test_the_longest_prompts_fit_in_a_jpeg(tmp_path: Path, pixels: Pixels, letter: str) -> None:
    long = {**METADATA, "prompt": letter * 8000, "negative_prompt": letter * 8000}
    saved = save_image(pixels, tmp_path / "image.jpg", metadata=long)
    with Image.open(saved.path) as image:
        assert image.size == (24, 16)


def test_names_come_from_job_and_seed() -> None:
    assert image_name(1234, 1839201, "png") == "00001234-1839201.png"
    assert image_name(123456789, 2**63 - 1, "jpeg") == "123456789-9223372036854775807.jpg"


def test_a_path_is_a_file_in_a_folder_of_the_root(tmp_path: Path) -> None:
    assert image_path(tmp_path, "batch-1", "00000001-7.png") == tmp_path.resolve() / "batch-1" / "00000001-7.png"


@pytest.mark.parametrize(
    "part", ["..", ".", "", "a/b", "a\\b", "/etc", "C:", "nul", "COM1.png", "a.", "a ", ".hidden", "a\0"]
)
def test_a_path_that_could_lead_elsewhere_is_refused(tmp_path: Path, part: str) -> None:
    for folder, name in ((part, "1-1.png"), ("batch", part)):
        with pytest.raises(PathRefused):
            image_path(tmp_path, folder, name)


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "batch").symlink_to(tmp_path)
    with pytest.raises(PathRefused):
        image_path(tmp_path / "root", "batch", "1-1.png")


def test_an_image_of_another_tool_has_no_record(tmp_path: Path, pixels: Pixels) -> None:
    for suffix in ("png", "jpg"):
        Image.fromarray(pixels).save(tmp_path / f"image.{suffix}")
        assert read_metadata(tmp_path / f"image.{suffix}").record is None
