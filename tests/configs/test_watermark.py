"""The watermark, read by the package that the original scripts wrote it with."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import watermark
from configs.watermark import TEXT, Pixels, embed, is_marked

DEMO = Path(__file__).parents[2] / "docs" / "images" / "demo.png"
Decode = Callable[[Pixels], bytes]


@pytest.fixture(scope="session")
def decode() -> Decode:
    """What `scripts/tests/test_watermark.py` of the original repository prints."""
    try:
        from imwatermark import WatermarkDecoder
    except ImportError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"needs invisible-watermark and the libraries of OpenCV: {error}")
    return lambda pixels: WatermarkDecoder("bytes", 136).decode(np.ascontiguousarray(pixels[..., ::-1]), "dwtDct")


def plain(*colour: int) -> Pixels:
    return np.full((256, 256, 3), colour, np.uint8)


def clouds(height: int, width: int) -> Pixels:
    """Noise of all frequencies, the low ones strongest: as smooth and as rough as a photograph."""
    picture = np.zeros((height, width, 3), np.float32)
    for side in (2, 5, 13, 37, 150):
        noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        picture += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)) * 1.0 / side
    return (255 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)


PICTURES = {
    "clouds": clouds(512, 512),
    "the smallest": clouds(256, 256),
    "sides of no multiple": clouds(301, 519),
    "noise": np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8),
    "the demo": np.asarray(Image.open(DEMO).convert("RGB")),
    "white": plain(255, 255, 255),
    "black": plain(0, 0, 0),
    "blue": plain(0, 0, 255),
    "yellow": plain(255, 255, 0),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_package_of_the_original_scripts_reads_the_watermark(name: str, decode: Decode) -> None:
    assert decode(embed(PICTURES[name])) == TEXT.encode()


@pytest.mark.parametrize("name", PICTURES)
def test_we_tell_a_marked_picture_from_one_that_is_not(name: str) -> None:
    assert (is_marked(PICTURES[name]), is_marked(embed(PICTURES[name]))) == (False, True)


@pytest.mark.parametrize("name", PICTURES)
def test_the_watermark_cannot_be_seen(name: str) -> None:
    difference = embed(PICTURES[name]).astype(int) - PICTURES[name]
    assert abs(difference).max() <= 28
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 30


@pytest.mark.parametrize(("height", "width", "marked"), [(256, 256, True), (255, 257, False), (128, 512, True)])
def test_a_small_picture_stays_as_it_is(height: int, width: int, marked: bool) -> None:
    pixels = clouds(height, width)
    found = embed(pixels)
    assert (found is not pixels, is_marked(found)) == (marked, marked)


def test_the_same_picture_is_marked_the_same() -> None:
    assert np.array_equal(embed(PICTURES["clouds"]), embed(PICTURES["clouds"].copy()))


def test_a_large_picture_is_marked_in_strips_as_if_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embed(PICTURES["sides of no multiple"])
    monkeypatch.setattr(watermark, "STRIP", 519 * 40)
    assert np.array_equal(embed(PICTURES["sides of no multiple"]), whole)
