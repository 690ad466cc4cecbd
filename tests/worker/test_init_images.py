"""Init images as people have them: every mode of pixels, broken and hostile files, and where they may lie."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs.init_images import picture_size
from configs.roots import Roots
from worker.canvas import open_canvas
from worker.errors import InitImageRefused
from worker.init_images import admitted, open_init_image
from worker.sample import Pixels, Sample

RED = (204, 51, 102)
"""Of the palette that Pillow converts to."""
Open = Callable[..., Pixels]


@pytest.fixture
def read(make_sample: Any, tmp_path: Path) -> Open:
    """The pixels that a picture saved under that name gives a sample of 16x8."""

    def read(image: Image.Image | bytes, name: str = "a.png", **options: Any) -> Pixels:
        if isinstance(image, bytes):
            (tmp_path / name).write_bytes(image)
        else:
            image.save(tmp_path / name, **options)
        return open_init_image(make_sample(init_image=tmp_path / name, width=16, height=8))

    return read


def red(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (16, 8), RED).convert(mode)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (red(), "a.png"),
        (red("RGBA"), "a.png"),
        (red("P"), "a.png"),
        (red("P"), "a.gif"),
        (red(), "a.bmp"),
        (red("CMYK"), "a.tif"),
        (red("RGBA"), "a.webp"),
    ],
    ids=lambda value: getattr(value, "mode", value),
)
def test_every_mode_becomes_rgb(read: Open, image: Image.Image, name: str) -> None:
    pixels = read(image, name, **({"lossless": True} if name == "a.webp" else {}))
    assert (pixels.shape, pixels.dtype) == ((8, 16, 3), np.uint8)
    assert np.abs(pixels.astype(int) - RED).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_grey(read: Open, mode: str) -> None:
    image = Image.new("L", (16, 8), 255).convert(mode)
    assert (read(image) == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_keep_their_brightness(read: Open, name: str) -> None:
    levels = np.linspace(0, 65535, 128).astype(np.uint16).reshape(8, 16)
    assert np.abs(read(Image.fromarray(levels), name)[..., 0] - levels / 257).max() <= 0.5


def test_numbers_of_32_bits_are_refused(read: Open) -> None:
    with pytest.raises(InitImageRefused, match="save it with 8 or 16 bits"):
        read(Image.fromarray(np.ones((8, 16), np.float32)), "a.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(read: Open, mode: str) -> None:
    image = Image.new("RGBA", (16, 8), (0, 0, 0, 0))
    options = {"transparency": 0} if mode == "P" else {}
    pixels = read(Image.new("P", (16, 8), 0) if mode == "P" else image.convert(mode), **options)
    assert (pixels == 255).all()


def test_the_originals_way_takes_the_colours_under_transparency(make_sample: Any, tmp_path: Path) -> None:
    Image.new("RGBA", (16, 8), (*RED, 0)).save(tmp_path / "a.png")
    sample = make_sample(init_image=tmp_path / "a.png", width=16, height=8)
    assert (open_init_image(sample) == 255).all()
    assert (open_init_image(replace(sample, compat="compvis")) == RED).all()


def test_a_picture_is_turned_upright_before_it_is_stretched(read: Open) -> None:
    """Orientation 6: the right column of what is stored is the lowest row of what is seen."""
    stored = np.zeros((16, 8, 3), np.uint8)
    stored[:, 4:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read(Image.fromarray(stored), exif=exif)
    assert pixels[:2].max() == 0
    assert pixels[-2:].min() == 255


def test_another_size_is_stretched(read: Open) -> None:
    assert read(red().resize((101, 83))).shape == (8, 16, 3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_many_frames_the_first_is_taken(read: Open, name: str) -> None:
    options = {"lossless": True} if name == "a.webp" else {}
    frames = [Image.new("RGB", (16, 8), "blue") for _ in range(3)]
    pixels = read(red(), name, save_all=True, append_images=frames, **options)
    assert np.abs(pixels.astype(int) - RED).max() <= 1


def png_of(width: int, height: int) -> bytes:
    """A PNG file that says it is so large, and is not."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [9_500, 20_000, 2**31 - 1])
@pytest.mark.parametrize("action", ["error", "always"])
def test_a_decompression_bomb_is_refused_without_a_warning(read: Open, side: int, action: Any) -> None:
    """Pillow only warns of the smallest."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        with pytest.raises(InitImageRefused, match="has more than 89,478,485 pixels; make it smaller"):
            read(png_of(side, side))
    assert caught == []


@pytest.mark.parametrize("kept", [0, 10, 60, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.bmp"])
def test_a_truncated_file_is_refused(read: Open, tmp_path: Path, name: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    with pytest.raises(InitImageRefused, match="cannot be read as a picture"):
        read(whole[: int(kept if kept > 1 or not kept else kept * len(whole))], name)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"text"])
def test_what_is_no_picture_is_refused(read: Open, content: bytes) -> None:
    with pytest.raises(InitImageRefused, match="cannot be read as a picture"):
        read(content)


def test_a_pipe_is_not_waited_for(make_sample: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InitImageRefused, match="there is no such file"):
        open_init_image(make_sample(init_image=tmp_path / "pipe.png"))


def test_a_picture_that_has_changed_is_read_again(read: Open, tmp_path: Path) -> None:
    assert read(red())[0, 0].tolist() == list(RED)
    os.utime(tmp_path / "a.png", ns=(0, 0))
    assert read(Image.new("RGB", (8, 8), "blue"))[0, 0].tolist() == [0, 0, 255]
    assert picture_size(str(tmp_path / "a.png")) == (8, 8)


def test_only_pictures_below_the_roots_are_admitted(tmp_path: Path) -> None:
    roots, inside, outside = Roots([tmp_path / "in"]), tmp_path / "in" / "deep", tmp_path / "in-not"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (inside / "out.png").symlink_to(outside / "a.png")
    (inside / "there").symlink_to(outside)
    (tmp_path / "back.png").symlink_to(inside / "a.png")
    for way in (inside / "a.png", tmp_path / "back.png", outside / ".." / "in" / "deep" / "a.png"):
        assert admitted(str(way), roots) == inside / "a.png"
    for way in (outside / "a.png", inside / "out.png", inside / "there" / "a.png", inside / "../../in-not/a.png"):
        with pytest.raises(InitImageRefused, match="set init_roots for the worker"):
            admitted(str(way), roots)


def mask_of(make_sample: Any, folder: Path, image: Image.Image, **fields: Any) -> Any:
    image.save(folder / "mask.png")
    red().save(folder / "init.png")
    begun = {"init_image": folder / "init.png", "mask_image": folder / "mask.png", "width": 16, "height": 8}
    return open_canvas(make_sample(**{**begun, **fields})).mask


def test_a_mask_is_white_from_the_middle_grey_on(make_sample: Any, tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(120, 136, dtype=np.uint8)[None].repeat(8, axis=0))
    assert mask_of(make_sample, tmp_path, grey)[0].tolist() == [False] * 8 + [True] * 8


def test_what_is_transparent_in_a_mask_is_kept(make_sample: Any, tmp_path: Path) -> None:
    image = Image.new("RGBA", (160, 80), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (80, 0, 160, 80))
    assert mask_of(make_sample, tmp_path, image)[0].tolist() == [False] * 8 + [True] * 8


def test_a_mask_with_nothing_white_is_refused(make_sample: Any, tmp_path: Path) -> None:
    with pytest.raises(InitImageRefused, match="nowhere white"):
        mask_of(make_sample, tmp_path, Image.new("L", (16, 8), 127))


def test_a_mask_needs_an_init_image(make_sample: Any, tmp_path: Path) -> None:
    with pytest.raises(InitImageRefused, match="no init image for the mask"):
        mask_of(make_sample, tmp_path, Image.new("L", (16, 8), 255), init_image=None)


def test_a_canvas_gives_back_the_pixels_around_its_mask(make_sample: Any, tmp_path: Path) -> None:
    Image.new("L", (16, 8)).save(tmp_path / "mask.png")
    mask = np.zeros((8, 16), np.uint8)
    mask[2:5, 3:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    red().save(tmp_path / "init.png")
    sample = make_sample(init_image=tmp_path / "init.png", mask_image=tmp_path / "mask.png", width=16, height=8)
    pixels = np.zeros((8, 16, 3), np.uint8)
    open_canvas(sample).restore(pixels)
    assert (pixels[mask > 0] == 0).all()
    assert (pixels[mask == 0] == RED).all()


def test_equal_samples_are_equal_whatever_they_begin_from(make_sample: Any) -> None:
    first, second = (make_sample(init_image=Path("a.png"), mask_image=Path("b.png")) for _ in range(2))
    assert first == second
    assert isinstance(hash(first), int)
    assert isinstance(first, Sample)
