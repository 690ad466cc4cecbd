"""Every sampler × from noise and from an init image × two sizes, against plain diffusers calls."""

import random
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from configs.samplers import known_samplers
from tests.worker.pipelines import call_pipeline
from worker.checkpoints import Checkpoint
from worker.renderer import Flight, Renderer
from worker.sample import Pixels, Sample
from worker.trajectories import ObjectTrajectory

pytestmark = [
    pytest.mark.slow,
    # diffusers 0.42 with numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
    # DPM++ SDE's Brownian motion, asked for times in float64 that were rounded to float32.
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

CASES = [
    (name, start, size)
    for name, start, size in product(known_samplers(), ("txt2img", "img2img"), ((32, 32), (48, 32)))
    # It cannot begin from an image.
    if (name, start) != ("PLMS", "img2img")
]
BROWNIAN = {"DPM++ SDE", "DPM++ SDE Karras"}


class Plain(NamedTuple):
    latents: torch.Tensor
    """(1, C, h, w)"""
    pixels: Pixels


@pytest.fixture(scope="module")
def init_images(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """One for each width: the img2img pipeline takes the size from the image."""
    folder = tmp_path_factory.mktemp("init")
    paths = {width: folder / f"{width}.png" for width in (32, 48)}
    for width, path in paths.items():
        pixels = np.random.default_rng(0).integers(0, 255, (32, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def make_case(index: int, init_images: dict[int, Path]) -> Sample:
    """Neighbours differ in prompt, seed, scale and steps too, and a third of them is unguided."""
    sampler, start, (width, height) = CASES[index]
    begun = {"steps": 8, "strength": 0.6, "init_image": init_images[width]}
    fields: dict[str, Any] = begun if start == "img2img" else {}
    fields = {"steps": 4 + index // 2 % 3, "scale": (7.5, 1.0, 4.0)[index % 3], "seed": index, **fields}
    return Sample(
        model="tiny",
        prompt=f"picture {index}",
        negative_prompt="x" * (index % 2),
        sampler=sampler,
        width=width,
        height=height,
        **fields,
    )


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint) -> Callable[[Sample], Plain]:
    """What a plain pipeline call makes of a sample; made once."""
    made: dict[Sample, Plain] = {}

    def make(sample: Sample) -> Plain:
        if sample not in made:
            latents: list[torch.Tensor] = []

            def keep(*args: Any) -> dict[str, Any]:
                latents.append(args[-1]["latents"])
                return {}

            image = call_pipeline(checkpoint, sample, callback_on_step_end=keep)[0]
            made[sample] = Plain(latents[-1], (image * 255).round().astype(np.uint8))
        return made[sample]

    return make


@pytest.fixture(scope="module")
def along_objects(checkpoint: Checkpoint) -> Renderer:
    return Renderer(checkpoint, sampling="objects")


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: f"{CASES[i][0]}-{CASES[i][1]}-{CASES[i][2][0]}")
def test_alone_along_an_object_an_image_is_the_pipelines_bit_for_bit(
    along_objects: Renderer, plain: Any, init_images: dict[int, Path], index: int
) -> None:
    sample = make_case(index, init_images)
    flights = along_objects.fly([sample])
    assert torch.equal(flights[0].latents, plain(sample).latents)
    assert np.array_equal(along_objects.decode(flights)[0], plain(sample).pixels)


class Recorder(Renderer):
    """Remembers the flights that it has decoded."""

    landed: list[Flight]

    def decode(self, flights: list[Flight]) -> list[Pixels | None]:
        self.landed = [*getattr(self, "landed", []), *flights]
        return super().decode(flights)


@pytest.mark.parametrize("sampling", ["tables", "objects"])
def test_in_a_mixed_queue_latents_are_the_pipelines(
    open_engine: Any, checkpoint: Checkpoint, plain: Any, init_images: dict[int, Path], sampling: Any
) -> None:
    # Every sampler and start, in one of the two sizes.
    mixed = [make_case(index, init_images) for index in range(len(CASES)) if (index + index // 2) % 2]
    random.Random(0).shuffle(mixed)
    renderer = Recorder(checkpoint, sampling=sampling)
    with open_engine(renderer=renderer, max_rows=16) as engine:
        pictures = [future.result() for future in [engine.submit(sample) for sample in mixed]]
    assert len(renderer.landed) == len(mixed)
    assert max(picture.rows for picture in pictures) > 12
    for flight in renderer.landed:
        expected = plain(flight.sample).latents
        assert (flight.latents - expected).abs().max() <= 1e-4 * expected.abs().max(), flight.sample
    along_objects = {f.sample.sampler for f in renderer.landed if isinstance(f.trajectory, ObjectTrajectory)}
    assert along_objects == (BROWNIAN if sampling == "tables" else set(known_samplers()))
