"""What an image file says of itself, and what the ledger says of a job."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from configs.watermark import embed
from producer.errors import NoRecord, PictureUnreadable
from producer.show import read_image
from worker.images import save_image

METADATA = {
    "prompt": "a castle, oil", "negative_prompt": "", "model": "demo", "sampler": "DDIM", "steps": 20, "scale": 7.5,
    "width": 24, "height": 16, "seed": 5, "checkpoint_hash": "0" * 64, "job": 12, "tags": {"category": "Places"},
}  # fmt: skip
PIXELS = np.zeros((16, 24, 3), dtype=np.uint8)
Call = Callable[..., Result]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_what_a_worker_wrote_is_read_without_the_worker(tmp_path: Path, suffix: str) -> None:
    saved = save_image(PIXELS, tmp_path / f"image.{suffix}", metadata=METADATA)
    found = read_image(saved.path)
    assert found.record == METADATA
    assert found.infotext
    assert found.infotext.startswith("a castle, oil\nSteps: 20")


def test_show_prints_an_images_infotext_and_record(promptmill: Call, tmp_path: Path) -> None:
    saved = save_image(PIXELS, tmp_path / "image.png", metadata=METADATA)
    lines = promptmill("show", saved.path).stdout.splitlines()
    assert lines[0] == "a castle, oil"
    assert ["job", "12"] in [line.split() for line in lines]
    assert ["tags", "category", "Places"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (None, "cpu, from the seed alone"),
        (
            {"source": "cuda", "start": {"seed": 5, "draw": 0, "rows": 1, "row": 0}},
            "cuda, draw 0 of seed 5, row 0 of 1",
        ),
        ({"source": "the moon"}, "source the moon"),
    ],
)
def test_show_tells_where_the_noise_comes_from(promptmill: Call, tmp_path: Path, noise: object, words: str) -> None:
    path, chunks = tmp_path / "image.png", PngInfo()
    chunks.add_text("promptmill", json.dumps({**METADATA, "noise": noise}))
    Image.fromarray(PIXELS).save(path, pnginfo=chunks)
    assert ["noise", words] in [line.split(maxsplit=1) for line in promptmill("show", path).stdout.splitlines()]


@pytest.mark.parametrize("metadata", [METADATA, None])
def test_show_tells_the_watermark(promptmill: Call, tmp_path: Path, metadata: dict[str, object] | None) -> None:
    marked = embed(np.full((256, 256, 3), 128, np.uint8))
    saved = save_image(marked, tmp_path / "image.png", metadata=metadata)
    lines = [line.split() for line in promptmill("show", saved.path).stdout.splitlines()]
    assert lines[-1] == ["watermark", "StableDiffusionV1"]
    assert (["job", "12"] in lines) == bool(metadata)


def test_a_picture_that_says_nothing_is_refused(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "bare.png")
    with pytest.raises(NoRecord, match="does not say what made it"):
        read_image(tmp_path / "bare.png")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(PictureUnreadable, match="cannot be read"):
        read_image(tmp_path / "x.png")


def test_show_prints_a_job_with_its_tags(promptmill: Call) -> None:
    Path("a.csv").write_text("prompt,seed,category\na cat,7,Animals\n")
    promptmill("submit", "a.csv")
    lines = [line.split(maxsplit=1) for line in promptmill("show", "1").stdout.splitlines()]
    assert ["prompt", "a cat"] in lines
    assert ["seed", "7"] in lines
    assert ["tags", "category Animals"] in lines
