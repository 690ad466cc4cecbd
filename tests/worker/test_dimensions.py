"""Stable Diffusion 1.x of another size, out of a single file."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from configs.checkpoints import SHIPPED
from tests.worker.ldm import save_tiny_parts, write_single_file
from worker.checkpoints import open_checkpoint
from worker.dimensions import fit_text_encoder
from worker.families import FAMILIES, OTHER_SIZE, read_config


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_parts(tmp_path_factory.mktemp("tiny"))


def test_the_shapes_tell_the_sizes(parts: Path, tmp_path: Path) -> None:
    write_single_file(parts, tmp_path / "tiny.safetensors")
    opened = open_checkpoint(str(tmp_path / "tiny.safetensors"), device="cpu")
    peers = {
        "unet": UNet2DConditionModel.from_pretrained(parts / "unet"),
        "vae": AutoencoderKL.from_pretrained(parts / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(parts / "text_encoder"),
    }
    for name, peer in peers.items():
        found = getattr(opened, name).state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in peer.state_dict().items())
    assert opened.factor == 4


def test_the_text_encoder_computes_the_same(parts: Path, tmp_path: Path) -> None:
    write_single_file(parts, tmp_path / "tiny.safetensors")
    opened = open_checkpoint(str(tmp_path / "tiny.safetensors"), device="cpu")
    tokens = torch.tensor([opened.tokenizer.encode("a photograph")])
    peer = CLIPTextModel.from_pretrained(parts / "text_encoder")
    # quick_gelu is the activation of the family.
    assert opened.text_encoder.config.hidden_act == "quick_gelu" == peer.config.hidden_act
    with torch.no_grad():
        assert torch.equal(opened.text_encoder(tokens)[0], peer(tokens)[0])


def test_the_sizes_of_clip_are_read_off_its_own_shapes() -> None:
    config = read_config(SHIPPED / "sd-v1" / "text_encoder" / "config.json")
    with torch.device("meta"):
        model = CLIPTextModel(CLIPTextConfig(**config))
    weights = {key.removeprefix("text_model."): tensor for key, tensor in model.state_dict().items()}
    fitted = fit_text_encoder({f"transformer.text_model.{key}": [*weights[key].shape] for key in weights})
    assert fitted == {name: config[name] for name in fitted}


def test_known_families_are_not_fitted() -> None:
    assert OTHER_SIZE.other_size
    assert not any(family.other_size for family in FAMILIES.values())
