"""Images whose numbers go out of range in half precision: made again in float32, once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.conftest import CPU
from tests.worker.pipelines import save_sdxl
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.errors import NonFiniteImage
from worker.float32 import in_float32


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def half(request: pytest.FixtureRequest, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = checkpoint_folder if request.param == "sd" else save_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")
    return open_checkpoint(str(folder), **{**CPU, "dtype": "bfloat16"})


def overflow(module: Any, inputs: Any, output: Any) -> Any:  # noqa: ARG001 - what a hook is called with
    """In half precision, what comes of the first row becomes infinite."""
    tensor = output[0] if isinstance(output, tuple) else output
    if tensor.dtype == torch.float32:
        return None
    tensor = torch.cat([torch.full_like(tensor[:1], torch.inf), tensor[1:]])
    return (tensor,) if isinstance(output, tuple) else tensor


@pytest.fixture(params=["unet", "vae"])
def overflowing(request: pytest.FixtureRequest, half: Checkpoint) -> Any:
    """A checkpoint in half precision whose UNet or VAE overflows."""
    part = half.unet if request.param == "unet" else half.vae.decoder
    hook = part.register_forward_hook(overflow)
    yield request.param, half
    hook.remove()


def test_an_image_that_is_not_finite_is_made_again_in_float32(
    open_engine: Any, overflowing: tuple[str, Checkpoint], make_sample: Any
) -> None:
    part, checkpoint = overflowing
    with open_engine(checkpoint, vae_batch=1) as engine:
        made = engine.submit(make_sample()).result()
    with open_engine(in_float32(checkpoint)) as engine:
        expected = engine.submit(make_sample()).result()
    assert (made.dtype, made.exact) == ("float32", False)
    assert made.pixels.tobytes() == expected.pixels.tobytes() or part == "vae"


def test_its_neighbours_stay_in_half_precision(
    open_engine: Any, overflowing: tuple[str, Checkpoint], make_sample: Any
) -> None:
    with open_engine(overflowing[1]) as engine:
        futures = [engine.submit(make_sample(seed=seed, scale=1.0)) for seed in range(2)]
        assert sorted(future.result().dtype for future in futures) == ["bfloat16", "float32"]


def test_the_weights_stay_as_they_were(open_engine: Any, overflowing: tuple[str, Checkpoint], make_sample: Any) -> None:
    _, checkpoint = overflowing
    before = {name: tensor.data_ptr() for name, tensor in checkpoint.unet.state_dict().items()}
    with open_engine(checkpoint) as engine:
        engine.submit(make_sample()).result()
    assert {name: tensor.data_ptr() for name, tensor in checkpoint.unet.state_dict().items()} == before
    assert {tensor.dtype for tensor in checkpoint.unet.state_dict().values()} == {torch.bfloat16}


def test_a_copy_in_float32_has_the_same_numbers(half: Checkpoint) -> None:
    copy = in_float32(half)
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(half, part).state_dict()
        found = getattr(copy, part).state_dict()
        assert {name: tensor.float().sum().item() for name, tensor in expected.items()} == {
            name: tensor.sum().item() for name, tensor in found.items()
        }


def test_what_is_not_finite_in_float32_either_fails_at_once(
    open_engine: Any, half: Checkpoint, make_sample: Any
) -> None:
    broken = replace(half, unet=in_float32(half).unet)
    broken.unet.conv_out.bias.fill_(torch.nan)
    broken.unet.to(torch.bfloat16)
    with open_engine(broken) as engine, pytest.raises(NonFiniteImage, match="in float32; try another sampler"):
        engine.submit(make_sample()).result()


def test_without_memory_for_float32_the_image_fails_and_the_engine_goes_on(
    open_engine: Any, overflowing: tuple[str, Checkpoint], make_sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("worker.renderer.in_float32", refuse)
    monkeypatch.setattr("worker.renderer.decoding_in_float32", refuse)
    with open_engine(overflowing[1]) as engine:
        bad, good = (engine.submit(make_sample(seed=seed, scale=1.0)) for seed in range(2))
        with pytest.raises(NonFiniteImage, match="does not fit in the memory"):
            bad.result()
        assert good.result().dtype == "bfloat16"
