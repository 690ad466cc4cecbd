"""A tiny Stable Diffusion with random weights: the real classes, saved as a diffusers folder."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from worker.checkpoints import Checkpoint, open_checkpoint
from worker.engine import Engine
from worker.renderer import Renderer
from worker.sample import Sample

CPU = {"device": "cpu", "dtype": "float32"}


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """One token a letter."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def make_text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=190,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=188,
        eos_token_id=189,
        pad_token_id=189,
    )
    return CLIPTextModel(config)


def make_unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    # Random weights predict next to nothing: without this every trajectory is the same.
    with torch.no_grad():
        unet.conv_out.weight.mul_(20)
    return unet


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        latent_channels=8,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.5,
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors lose more by waiting for a second thread than they gain."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 latent channels, 4 pixels a latent, v-prediction: nothing as in SD 1.x. Images are 32x32."""
    diffusers.utils.logging.set_verbosity_error()
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline(
        unet=make_unet(),
        vae=make_vae(),
        text_encoder=make_text_encoder(),
        tokenizer=make_tokenizer(folder / "letters"),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    return open_checkpoint(str(checkpoint_folder), **CPU)


@pytest.fixture
def open_engine(checkpoint: Checkpoint) -> Iterator[Callable[..., Any]]:
    """Makes engines for one checkpoint, whatever samples say, in a `with` block; dropped at its end."""

    @contextmanager
    def opened(of: Checkpoint = checkpoint, renderer: Renderer | None = None, **options: Any) -> Iterator[Engine]:
        engine = Engine(lambda _, progress: renderer or Renderer(of, progress), **options)
        try:
            yield engine
        finally:
            engine.close(finish=False)

    return opened


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    """A small sample; any field can be set."""

    def make(**fields: Any) -> Sample:
        defaults = {"model": "tiny", "prompt": "a red circle", "sampler": "DDIM", "steps": 4, "scale": 7.5, "seed": 1}
        return Sample(**{**defaults, "width": 32, "height": 32, **fields})

    return make


@pytest.fixture(scope="session")
def init_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("init") / "init.png"
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
