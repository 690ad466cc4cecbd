"""Inpainting against diffusers' own pipelines, by plain UNets and by those that see masks; and what it keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.worker.conftest import CPU
from tests.worker.pipelines import call_pipeline, save_sd, save_sdxl
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.errors import InitImageRefused
from worker.exact import ExactLayout
from worker.float32 import in_float32
from worker.renderer import Flight, Renderer
from worker.sample import Pixels, Sample

# diffusers 0.42 with numpy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
]

SAVED = {
    "plain": save_sd,
    "inpainting": lambda folder: save_sd(folder, inpainting=True),
    "plain-xl": save_sdxl,
    "inpainting-xl": lambda folder: save_sdxl(folder, inpainting=True),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint of each kind, opened once."""
    found: dict[str, Checkpoint] = {}

    def opened_as(kind: str) -> Checkpoint:
        if kind not in found:
            found[kind] = open_checkpoint(str(SAVED[kind](tmp_path_factory.mktemp(kind) / "tiny")), **CPU)
        return found[kind]

    return opened_as


@pytest.fixture(params=SAVED)
def painter(request: pytest.FixtureRequest, opened: Any) -> Checkpoint:
    return opened(request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A rectangle, grey noise of another size, and one that is white all over."""
    folder = tmp_path_factory.mktemp("masks")
    rectangle = np.zeros((32, 32), np.uint8)
    rectangle[8:24, 4:20] = 255
    noise = np.random.default_rng(1).integers(0, 255, (40, 50), dtype=np.uint8)
    pictures = {"rectangle": rectangle, "noise": noise, "white": np.full((32, 32), 255, np.uint8)}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in pictures}


@pytest.fixture
def make_job(make_sample: Any, init_image: Path, masks: dict[str, Path]) -> Any:
    """A sample with an init image and the mask of that name."""

    def make(mask: str = "rectangle", **fields: Any) -> Sample:
        begun = {"init_image": init_image, "mask_image": masks[mask], "strength": 0.6, "steps": 8}
        return make_sample(**{**begun, **fields})  # type: ignore[no-any-return]

    return make


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("scale", [7.5, 1.0])
def test_alone_along_an_object_latents_are_the_pipelines_bit_for_bit(
    painter: Checkpoint, make_job: Any, strength: float, scale: float
) -> None:
    sample = make_job(strength=strength, scale=scale, sampler="Euler a", negative_prompt="blurry")
    found = Renderer(painter, sampling="objects").fly([sample])[0].latents
    assert torch.equal(found, call_pipeline(painter, sample, output_type="latent"))


@pytest.mark.parametrize("sampler", ["DDIM", "Heun", "LMS", "DPM2", "DPM++ 2M Karras", "DPM2 a", "UniPC"])
@pytest.mark.parametrize("sampling", ["tables", "objects"])
def test_every_kind_of_sampler_puts_back_what_is_kept(
    opened: Any, make_job: Any, sampler: str, sampling: Any
) -> None:
    sample, painter = make_job("noise", sampler=sampler), opened("plain")
    found = Renderer(painter, sampling=sampling).fly([sample])[0].latents
    expected = call_pipeline(painter, sample, output_type="latent")
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def mixed_queue(make_job: Any, make_sample: Any, init_image: Path) -> list[Sample]:
    """From noise, from an image, from behind masks; of unlike steps, samplers and scales."""
    return [
        make_job(seed=1),
        make_job("noise", seed=2, steps=5, sampler="Euler a", strength=1.0, scale=1.0),
        make_sample(seed=3, sampler="Heun", steps=3),
        make_sample(seed=4, init_image=init_image, strength=0.5, steps=6, scale=1.0),
        make_job("noise", seed=5, sampler="DPM++ 2M Karras", scale=3.0, prompt="a blue square"),
        make_job(seed=6, sampler="DPM++ 2M SDE", eta=0.3),
    ]


def as_the_pipeline_wants_it(painter: Checkpoint, sample: Sample, init_image: Path, white: Path) -> Sample:
    """A UNet that sees masks is shown a white one where there is none."""
    if painter.unet.config.in_channels == 4 or sample.mask_image:
        return sample
    strength = sample.strength if sample.init_image else 1.0
    return replace(sample, init_image=sample.init_image or init_image, mask_image=white, strength=strength)


@pytest.mark.parametrize("sampling", ["tables", "objects"])
def test_in_a_mixed_queue_latents_are_the_pipelines(
    open_engine: Any, painter: Checkpoint, make_job: Any, make_sample: Any, init_image: Path, masks: Any, sampling: Any
) -> None:
    renderer = Recorder(painter, sampling=sampling)
    with open_engine(renderer=renderer, max_rows=16) as engine:
        queue = mixed_queue(make_job, make_sample, init_image)
        pictures = [future.result() for future in [engine.submit(sample) for sample in queue]]
    assert max(picture.rows for picture in pictures) > 6
    for flight in renderer.landed:
        expected = call_pipeline(
            painter,
            as_the_pipeline_wants_it(painter, flight.sample, init_image, masks["white"]),
            output_type="latent",
        )
        assert (flight.latents - expected).abs().max() <= 1e-4 * expected.abs().max(), flight.sample


class Recorder(Renderer):
    """Remembers the flights that it has decoded."""

    landed: list[Flight]

    def decode(self, flights: list[Flight]) -> list[Pixels | None]:
        self.landed = [*getattr(self, "landed", []), *flights]
        return super().decode(flights)
