"""Stable Diffusion 2.x through the engine: UNets that predict velocity, with and without a last step of pure noise."""

from pathlib import Path
from typing import Any

import pytest

from tests.worker.pipelines import assert_the_pipelines, call_pipeline, save_sd
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.renderer import Renderer
from worker.sample import Sample

# diffusers 0.42 with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SAMPLERS = ["Own", "DDIM", "PLMS", "DDPM", "DPM++ 2M", "DPM++ 2M Karras", "Euler", "Euler a", "Heun", "UniPC", "LCM"]
NOISES: dict[str, dict[str, Any]] = {
    "usual": {},
    "zero-snr": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
}
"""Lin et al. 2024, Common Diffusion Noise Schedules and Sample Steps are Flawed."""


@pytest.fixture(scope="module", params=NOISES)
def checkpoint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Checkpoint:
    folder = tmp_path_factory.mktemp("sd2") / "tiny"
    save_sd(folder, linear=True, prediction_type="v_prediction", **NOISES[request.param])
    opened = open_checkpoint(str(folder), device="cpu", dtype="float32")
    assert isinstance(opened, Checkpoint)
    return opened


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_alone_an_image_is_the_pipelines_bit_for_bit(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any, sampler: str
) -> None:
    assert_the_pipelines(open_engine, checkpoint, make_sample(sampler=sampler))


def test_in_a_mixed_call_latents_are_the_pipelines(checkpoint: Checkpoint, make_sample: Any, init_image: Path) -> None:
    samples: list[Sample] = [make_sample(sampler=name, seed=i, steps=4 + i % 3) for i, name in enumerate(SAMPLERS)]
    flights = Renderer(checkpoint).fly([*samples, make_sample(sampler="Own", init_image=init_image)])
    for flight in flights:
        expected = call_pipeline(checkpoint, flight.sample, output_type="latent")
        assert (flight.latents - expected).abs().max() <= 1e-4 * expected.abs().max(), flight.sample
