"""Where checkpoints are, what renders them and how large their images are."""

import json
from pathlib import Path
from typing import Any

import pytest

from configs import checkpoints
from configs.checkpoints import Way, checkpoint_path, choose_way, geometry, native_size, way_of
from configs.parameters import conflicts

VAE = {"block_out_channels": [1, 2, 4, 4]}
WAN_VAE = {"temperal_downsample": [False, True, True]}
DC_VAE = {"encoder_block_out_channels": [1, 2, 4, 4, 4, 4]}
UNET = ["diffusers", "UNet2DConditionModel"]


def make_folder(folder: Path, **configs: Any) -> str:
    """A diffusers folder of JSON files alone; `model_index` stands in the folder itself."""
    for name, config in configs.items():
        path = folder / ("model_index.json" if name == "model_index" else f"{name}/config.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(("sample_size", "size"), [(16, (128, 128)), ([16, 32], (256, 128)), (None, (512, 512))])
def test_a_unet_tells_the_size_of_its_images(tmp_path: Path, sample_size: object, size: tuple[int, int]) -> None:
    assert native_size(make_folder(tmp_path, unet={"sample_size": sample_size}, vae=VAE)) == size


@pytest.mark.parametrize(
    ("transformer", "vae", "expected"),
    [
        ({"sample_size": 128, "patch_size": 2}, VAE, (1024, 1024, 16)),  # SD3, PixArt, Lumina
        ({"patch_size": 1, "in_channels": 64}, VAE, (1024, 1024, 16)),  # Flux packs latents by four
        ({"patch_size": 2}, WAN_VAE, (1024, 1024, 16)),  # Qwen-Image
        ({"sample_size": 32, "patch_size": 1}, DC_VAE, (1024, 1024, 32)),  # Sana
        ({"sample_size": [32, 64], "patch_size": [1, 2, 2]}, VAE, (512, 256, 16)),
    ],
)
def test_a_transformer_tells_it_too(tmp_path: Path, transformer: Any, vae: Any, expected: tuple[int, ...]) -> None:
    assert geometry(make_folder(tmp_path, transformer=transformer, vae=vae)) == expected


@pytest.mark.parametrize("model", ["owner/name", "/no/such/folder", "model.safetensors", "x" * 9999])
def test_where_nothing_tells_the_size_it_is_512(model: str) -> None:
    assert native_size(model) == (512, 512)
    assert way_of(model) is None


@pytest.mark.parametrize(("key", "size"), [("conditioner.embedders.1.model.x", 1024), ("cond_stage_model.x", 512)])
def test_a_single_file_of_sdxl_is_known_by_its_header(tmp_path: Path, key: str, size: int) -> None:
    header = json.dumps({key: {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert native_size(str(tmp_path / "model.safetensors")) == (size, size)
    assert way_of(str(tmp_path / "model.safetensors")) == (Way.SDXL if size == 1024 else None)


def test_a_hub_id_is_looked_up_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    cache = tmp_path / "hub" / "models--owner--cached"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc")
    make_folder(cache / "snapshots" / "abc", model_index={"_class_name": "FluxPipeline"}, transformer={}, vae=VAE)
    assert native_size("owner/cached") == (1024, 1024)
    assert way_of("owner/cached") is Way.PLAIN


@pytest.mark.parametrize(
    ("index", "unet", "way"),
    [
        ({"_class_name": "StableDiffusionPipeline", "unet": UNET}, {}, Way.SD),
        ({"_class_name": "StableDiffusionPipeline"}, {"time_cond_proj_dim": 256}, Way.PLAIN),
        ({"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderTiny"]}, {}, Way.PLAIN),
        ({"_class_name": "StableDiffusionXLPipeline"}, {"addition_embed_type": "text_time"}, Way.SDXL),
        ({"_class_name": "StableDiffusionXLPipeline"}, {"addition_embed_type": "image"}, Way.PLAIN),
        (
            {"_class_name": "StableDiffusionXLPipeline", "scheduler": ["diffusers", "EDMEulerScheduler"]},
            {"addition_embed_type": "text_time"},
            Way.PLAIN,
        ),
        ({"_class_name": "FluxPipeline"}, {}, Way.PLAIN),
        ({"_class_name": ["pipeline", "MyPipeline"]}, {}, Way.PLAIN),
        ({}, {}, Way.PLAIN),
    ],
)
def test_the_way_is_chosen_by_the_pipeline_and_its_unet(index: Any, unet: Any, way: Way) -> None:
    assert choose_way(index, unet) is way


@pytest.mark.parametrize(("name", "way"), [("demo", Way.SD), ("sd-v2", Way.SD), ("sdxl", Way.SDXL)])
def test_the_shipped_folders_share_steps(name: str, way: Way) -> None:
    assert way_of(str(checkpoints.SHIPPED / name)) is way


def test_only_the_short_name_is_the_shipped_checkpoint() -> None:
    assert Path(checkpoint_path("demo")) == checkpoints.SHIPPED / "demo"
    assert checkpoint_path("owner/demo") == "owner/demo"


ROW = {"sampler": "DDIM", "steps": 20, "width": 64, "height": 64, "strength": 0.75, "seed": None, "num_images": 1}


def test_a_size_the_checkpoint_cannot_make_is_a_conflict(tmp_path: Path) -> None:
    model = make_folder(tmp_path, unet={"sample_size": 16}, vae={"block_out_channels": [1, 2, 4]})
    row = {**ROW, "model": model, "width": 66, "init_image": None}
    assert list(conflicts(row)) == [("width", "66 is not a multiple of 4, which the checkpoint needs")]


def test_a_sampler_is_a_conflict_where_the_checkpoint_takes_none(tmp_path: Path) -> None:
    row = {**ROW, "model": make_folder(tmp_path, model_index={"_class_name": "FluxPipeline"}), "init_image": None}
    assert [name for name, _ in conflicts(row)] == ["sampler"]
    assert not list(conflicts({**row, "sampler": "Own"}))
