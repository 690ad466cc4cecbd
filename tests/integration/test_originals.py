"""`promptmill txt2img` and `inpaint` as real processes: one outdir, an embedded queue that comes and goes, a worker."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.test_local import start, wait_until  # noqa: F401 - fixture
from tests.worker.pipelines import save_sd

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def txt2img(start: Start, tmp_path: Path) -> Start:  # noqa: F811
    """Starts `promptmill txt2img` on a tiny checkpoint."""
    words = ("--ckpt", save_sd(tmp_path / "tiny"), "--H", 64, "--W", 64, "--outdir", "out", "--device", "cpu")
    return lambda *more: start("txt2img", *words, *more)


def samples() -> list[str]:
    return sorted(path.name for path in Path("out/samples").glob("*"))


def numbered(count: int) -> list[str]:
    return [f"{number:05}.png" for number in range(count)]


def test_a_second_run_shares_the_worker_and_outlives_the_first(txt2img: Start, home: Path) -> None:
    first = txt2img("--n_iter", 8, "--n_samples", 4, "--ddim_steps", 20)
    wait_until(first, lambda: (home / "valkey" / "url").exists() and len(list(Path("out").rglob("*.png"))) > 0)
    second = txt2img("--n_iter", 2, "--n_samples", 2, "--ddim_steps", 2, "--prompt", "another")
    wait_until(second, (home / "outdirs" / "0002-txt2img.jsonl").exists)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(samples())
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert "4 images and grid-0000.png in" in output
    assert samples() == numbered(before + 4)


def test_a_stopped_run_is_resumed_into_the_same_outdir(txt2img: Start, start: Start) -> None:  # noqa: F811
    process = txt2img("--n_iter", 6, "--n_samples", 4, "--ddim_steps", 20)
    wait_until(process, lambda: len(list(Path("out").rglob("*.png"))) >= 4)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Stopped; `promptmill resume 1` goes on from there." in output
    assert 4 <= len(samples()) < 24
    inodes = {path.name: path.stat().st_ino for path in Path("out/samples").iterdir()}
    assert start("resume").wait(timeout=120) == 0
    assert samples() == numbered(24)
    assert {name: Path("out/samples", name).stat().st_ino for name in inodes} == inodes
    assert Path("out/grid-0000.png").is_file()


def test_a_folder_of_pictures_is_filled_under_their_names(start: Start, tmp_path: Path) -> None:  # noqa: F811
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    hole = np.zeros((64, 96), bool)
    hole[16:48, 24:72] = True
    Path("in").mkdir()
    Image.fromarray(picture).save("in/a cat.png")
    Image.fromarray(hole).save("in/a cat_mask.png")
    words = ("--indir", "in", "--outdir", "out", "--steps", 2, "--n_samples", 2, "--device", "cpu")
    process = start("inpaint", *words, "--ckpt", save_sd(tmp_path / "tiny"))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "2 images in" in output
    filled = [np.asarray(Image.open(path)) for path in (Path("out/a cat.png"), Path("out/a cat-2.png"))]
    assert all(np.array_equal(pixels[~hole], picture[~hole]) for pixels in filled)
    assert not np.array_equal(*filled)
