"""SDXL through the engine, against plain calls of its pipelines."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.pipelines import assert_the_pipelines, call_pipeline, save_sdxl
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.renderer import Renderer
from worker.sample import Sample

# diffusers 0.42 with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SAMPLERS = ["DDIM", "PLMS", "DPM++ 2M Karras", "DPM++ 2M SDE", "Euler", "Euler a", "Heun", "UniPC", "LCM"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    opened = open_checkpoint(str(folder), device="cpu", dtype="float32")
    assert isinstance(opened, Checkpoint)
    return opened


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_alone_an_image_is_the_pipelines_bit_for_bit(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any, sampler: str
) -> None:
    assert_the_pipelines(open_engine, checkpoint, make_sample(sampler=sampler, negative_prompt="a square", width=48))


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "PLMS"])
def test_from_an_init_image_too(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any, init_image: Path, sampler: str
) -> None:
    assert_the_pipelines(
        open_engine, checkpoint, make_sample(sampler=sampler, steps=6, init_image=init_image, strength=0.6)
    )


@pytest.mark.parametrize("fields", [{}, {"negative_prompt": "a square"}, {"scale": 1.0}, {"prompt": "x" * 100}])
@pytest.mark.parametrize("zeros", [True, False])
def test_an_empty_negative_prompt_is_what_the_checkpoint_says(
    tmp_path: Path, make_sample: Any, fields: dict[str, Any], zeros: bool
) -> None:
    folder = save_sdxl(tmp_path / "tiny", force_zeros_for_empty_prompt=zeros)
    checkpoint = open_checkpoint(str(folder), device="cpu", dtype="float32")
    assert isinstance(checkpoint, Checkpoint)
    sample = make_sample(**fields)
    expected = call_pipeline(checkpoint, sample, output_type="latent")
    assert torch.equal(Renderer(checkpoint, sampling="objects").fly([sample])[0].latents, expected)


def mixed_samples(make_sample: Any, init_image: Path) -> list[Sample]:
    samples = []
    for i, sampler in enumerate(SAMPLERS * 2):
        fields = {"prompt": f"picture {i}", "seed": i, "steps": 4 + i % 3, "scale": [1.0, 4.0, 7.5][i % 3]}
        samples.append(make_sample(sampler=sampler, negative_prompt="x" * (i % 2), **fields))
    return [*samples, make_sample(init_image=init_image, steps=8), make_sample(init_image=init_image, sampler="Heun")]


def test_in_a_mixed_call_latents_are_the_pipelines(checkpoint: Checkpoint, make_sample: Any, init_image: Path) -> None:
    flights = Renderer(checkpoint).fly(mixed_samples(make_sample, init_image))
    assert max(flight.rows for flight in flights) > 16
    for flight in flights:
        expected = call_pipeline(checkpoint, flight.sample, output_type="latent")
        assert (flight.latents - expected).abs().max() <= 1e-4 * expected.abs().max(), flight.sample


def test_the_own_sampler_is_the_checkpoints_scheduler(checkpoint: Checkpoint, make_sample: Any) -> None:
    own, euler = (
        Renderer(checkpoint, sampling="objects").fly([make_sample(sampler=name)])[0] for name in ("Own", "Euler")
    )
    assert type(own.trajectory.scheduler) is type(euler.trajectory.scheduler)
    assert own.trajectory.scheduler.config.timestep_spacing == "linspace"


def test_the_vae_stays_in_float32_where_it_would_overflow(folder: Path) -> None:
    for dtype, expected in (("float16", torch.float32), ("bfloat16", torch.bfloat16)):
        opened = open_checkpoint(str(folder), device="cpu", dtype=dtype)
        assert isinstance(opened, Checkpoint)
        assert (opened.vae.dtype, opened.unet.dtype) == (expected, opened.dtype)


def test_pictures_in_half_precision_come_out(
    open_engine: Any, folder: Path, make_sample: Any, init_image: Path
) -> None:
    checkpoint = open_checkpoint(str(folder), device="cpu", dtype="float16")
    with open_engine(checkpoint) as engine:
        for sample in (make_sample(), make_sample(init_image=init_image)):
            assert engine.submit(sample).result().pixels.any()
