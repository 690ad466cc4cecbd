"""The table of samplers against the diffusers that is installed."""

import inspect

import diffusers
import pytest

from configs.samplers import Sampler, known_samplers
from worker.samplers import make_scheduler

# diffusers' DPM2 mixes NumPy and torch in a way that newer NumPy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

STABLE_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
samplers = pytest.mark.parametrize("sampler", known_samplers().values(), ids=lambda sampler: sampler.name)


@samplers
def test_the_scheduler_takes_every_option(sampler: Sampler) -> None:
    taken = inspect.signature(getattr(diffusers, sampler.scheduler).__init__).parameters
    assert set(sampler.options) <= set(taken)
    config = make_scheduler(sampler, STABLE_DIFFUSION).config
    assert {name: config[name] for name in sampler.options} == sampler.options


@samplers
def test_the_scheduler_takes_the_fewest_and_the_most_steps(sampler: Sampler) -> None:
    for steps in sampler.steps:
        scheduler = make_scheduler(sampler, STABLE_DIFFUSION)
        scheduler.set_timesteps(steps)
        assert 0 < max(scheduler.timesteps) < 1000


@samplers
def test_the_checkpoints_own_settings_do_not_change_the_sampler(sampler: Sampler) -> None:
    foreign = {"use_karras_sigmas": "Karras" not in sampler.name, "timestep_spacing": "trailing", "solver_order": 3}
    ours = make_scheduler(sampler, STABLE_DIFFUSION)
    theirs = make_scheduler(sampler, STABLE_DIFFUSION | foreign)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(10)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
