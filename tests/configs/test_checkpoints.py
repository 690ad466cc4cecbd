"""Where checkpoints are and how large their images are."""

import json
from pathlib import Path

import pytest

from configs import checkpoints
from configs.checkpoints import checkpoint_path, native_size
from configs.parameters import conflicts


def make_folder(folder: Path, sample_size: object) -> str:
    for name, config in {"unet": {"sample_size": sample_size}, "vae": {"block_out_channels": [1, 2, 4]}}.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(("sample_size", "size"), [(16, (64, 64)), ([16, 32], (128, 64)), (None, (512, 512))])
def test_a_folder_tells_the_size_of_its_images(tmp_path: Path, sample_size: object, size: tuple[int, int]) -> None:
    assert native_size(make_folder(tmp_path, sample_size)) == size


@pytest.mark.parametrize("model", ["owner/name", "/no/such/folder", "model.safetensors"])
def test_where_nothing_tells_the_size_it_is_512(model: str) -> None:
    assert native_size(model) == (512, 512)


def test_only_the_short_name_is_the_shipped_checkpoint() -> None:
    assert Path(checkpoint_path("demo")) == checkpoints.SHIPPED / "demo"
    assert checkpoint_path("owner/demo") == "owner/demo"


def test_a_size_the_checkpoint_cannot_make_is_a_conflict(tmp_path: Path) -> None:
    row = {"model": make_folder(tmp_path, 16), "sampler": "DDIM", "steps": 20, "width": 66, "height": 64}
    others = {"strength": 0.75, "seed": None, "num_images": 1, "init_image": None}
    assert list(conflicts({**row, **others})) == [("width", "66 is not a multiple of 4, which the checkpoint needs")]
