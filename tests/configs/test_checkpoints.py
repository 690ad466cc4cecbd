"""Where checkpoints are and how large their images are."""

import json
from pathlib import Path

import pytest

from configs import checkpoints
from configs.checkpoints import checkpoint_path, native_size


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
