"""Samplers as diffusers schedulers: one scheduler object a sample, driven by index along its trajectory."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import diffusers
import torch
from torch import Tensor

from configs import samplers
from configs.errors import UnknownSampler
from worker.errors import InitImageRefused, SamplerRefused
from worker.sample import Sample

PIPELINE_OPTIONS = {"clip_sample": False, "steps_offset": 1, "skip_prk_steps": True}
"""What StableDiffusionPipeline silently makes of a scheduler's config, and what Stable Diffusion's PLMS is."""


@dataclass(slots=True)
class Trajectory:
    """One sample's way from noise to picture: its own scheduler object, and how far it is.

    The scheduler's tensors stay on the CPU: a look-up in them never waits for the device.
    """

    scheduler: Any
    timesteps: Tensor
    """Those still to run from the start of this sample, in order."""
    options: dict[str, Any]
    """Optional arguments of the scheduler's step."""
    index: int = field(default=0)

    @property
    def timestep(self) -> Tensor:
        """The next timestep, shape ()."""
        return self.timesteps[self.index]

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.index >= len(self.timesteps)

    def scale(self, latents: Tensor) -> Tensor:
        """Latents as the model wants to see them at the next timestep; same shape."""
        return self.scheduler.scale_model_input(latents, self.timestep)  # type: ignore[no-any-return]

    def step(self, prediction: Tensor, latents: Tensor) -> Tensor:
        """The latents after the next timestep; all of shape (1, C, h, w)."""
        latents = self.scheduler.step(prediction, self.timestep, latents, return_dict=False, **self.options)[0]
        self.index += 1
        return latents


class Schedulers:
    """Scheduler objects for one checkpoint, prepared once per (sampler, steps) and copied for each sample."""

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        self._config = dict(scheduler_config)
        self._prototype = lru_cache(maxsize=256)(self._prepare)

    def start(self, sample: Sample, generator: torch.Generator) -> Trajectory:
        """The sample's trajectory at its first step. Raises SamplerRefused, InitImageRefused."""
        scheduler = copy.deepcopy(self._prototype(sample.sampler, sample.steps))
        first = sample.first_step * scheduler.order
        timesteps = scheduler.timesteps[first:]
        if len(timesteps) == 0:
            raise InitImageRefused(
                f"Strength {sample.strength:g} of {sample.steps} steps leaves none to run; raise strength or steps."
            )
        # Without this a first timestep that stands twice in the list is taken at its second place.
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        # DPMSolverSDE draws from this seed and ignores the generator.
        if "noise_sampler_seed" in scheduler.config:
            scheduler.noise_sampler_seed = sample.seed
        return Trajectory(scheduler, timesteps, _step_options(scheduler, sample.eta, generator))

    def _prepare(self, name: str, steps: int) -> Any:
        scheduler = make_scheduler(_resolve(name), self._config)
        try:
            scheduler.set_timesteps(steps)
        except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
            raise SamplerRefused(f"Sampler {name} cannot run in {steps} steps: {error}.") from error
        # DDIM in 1000 steps would begin one after the last: steps_offset shifts them all.
        if scheduler.timesteps.max() >= scheduler.config.num_train_timesteps:
            raise SamplerRefused(f"Sampler {name} cannot run in {steps} steps; use fewer.")
        return scheduler


def make_scheduler(sampler: samplers.Sampler, scheduler_config: Mapping[str, Any]) -> Any:
    """A diffusers scheduler with the checkpoint's noise schedule and prediction type, and the sampler's options."""
    scheduler_class = getattr(diffusers, sampler.scheduler)
    accepted = inspect.signature(scheduler_class.__init__).parameters
    fixed = {key: value for key, value in PIPELINE_OPTIONS.items() if key in accepted}
    try:
        return scheduler_class.from_config({**scheduler_config, **fixed, **sampler.options})
    except (ValueError, ImportError, NotImplementedError) as error:
        raise SamplerRefused(f"Sampler {sampler.name} does not work with this checkpoint: {error}.") from error


def _resolve(name: str) -> samplers.Sampler:
    try:
        return samplers.resolve(name)
    except UnknownSampler as error:
        raise SamplerRefused(str(error)) from error


def _step_options(scheduler: Any, eta: float, generator: torch.Generator) -> dict[str, Any]:
    """The pipelines give eta to every step that takes it: TCD's own default is another."""
    accepted = inspect.signature(scheduler.step).parameters
    offered = {"eta": eta, "generator": generator}
    return {name: value for name, value in offered.items() if name in accepted}
