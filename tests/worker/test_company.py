"""An image depends on its own seed and parameters alone, and not on how many are made at once."""

from typing import Any

import numpy as np
import pytest

from worker.checkpoints import Checkpoint
from worker.renderer import Renderer

RANDOM = [("Euler a", 0.0), ("DDIM", 1.0)]
"""Samplers that draw noise at each step, from a generator of the sample's own."""
STEADY = [("DPM++ 2M Karras", 0.0), ("PLMS", 0.0), ("LMS", 0.0), ("DDIM", 0.0)]

# diffusers 0.42 with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(("sampler", "eta"), RANDOM + STEADY)
def test_the_images_of_a_row_are_those_of_their_seeds_made_alone(
    checkpoint: Checkpoint, make_sample: Any, sampler: str, eta: float
) -> None:
    renderer = Renderer(checkpoint)
    samples = [make_sample(sampler=sampler, eta=eta, seed=42 + k, steps=6) for k in range(4)]
    together = renderer.fly(samples)
    for flight, pixels in zip(together, renderer.decode(together), strict=True):
        alone = renderer.fly([flight.sample])
        difference = (alone[0].latents - flight.latents).abs().max() / flight.latents.abs().max()
        assert difference <= 1e-4
        assert np.abs(renderer.decode(alone)[0].astype(int) - pixels).max() <= 1


@pytest.mark.parametrize(("sampler", "eta"), [*RANDOM, ("DDIM", 0.0)])
def test_an_image_is_the_same_whoever_shares_its_engine(
    open_engine: Any, make_sample: Any, sampler: str, eta: float
) -> None:
    wanted = make_sample(sampler=sampler, eta=eta, steps=5)
    others = [make_sample(sampler="Euler", seed=k, steps=2 + k, scale=1.0 + k % 2) for k in range(6)]
    with open_engine(max_rows=2) as engine:
        alone = engine.submit(wanted).result().pixels
    with open_engine(max_rows=8) as engine:
        futures = [engine.submit(sample) for sample in (*others[:3], wanted, *others[3:])]
        shared = futures[3].result().pixels
    assert np.abs(alone.astype(int) - shared).max() <= 1
