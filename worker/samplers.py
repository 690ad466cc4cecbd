"""Samplers by name, put to work: which scheduler each is with a checkpoint, and the trajectories of samples."""

import copy
import inspect
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import diffusers
import torch
from torch import Tensor

from configs import samplers
from configs.compat import TRAIN_STEPS
from configs.errors import UnknownSampler
from worker.errors import InitImageRefused, SamplerRefused
from worker.noise import Source
from worker.rules import compile_rule
from worker.sample import Sample
from worker.schedulers import begin, noise_levels, step_options
from worker.tables import Table, compile_table
from worker.trajectories import ObjectTrajectory, TableTrajectory, Trajectory

log = logging.getLogger(__name__)

Sampling: TypeAlias = Literal["tables", "objects"]
"""How samples step: along tables where the sampler is linear, or each along a scheduler object of its own."""

PIPELINE_OPTIONS = {"clip_sample": False, "steps_offset": 1, "skip_prk_steps": True}
"""What StableDiffusionPipeline silently makes of a scheduler's config, and what Stable Diffusion's PLMS is."""


class Samplers:
    """Starts the trajectories of one checkpoint's samples; what can be shared is made once, and kept."""

    def __init__(self, scheduler_config: Mapping[str, Any], sampling: Sampling = "tables") -> None:
        self._config = dict(scheduler_config)
        self._sampling = sampling
        self._not_linear: set[str] = set()
        self._prototype = lru_cache(maxsize=256)(self._prepare)
        self._table = lru_cache(maxsize=1024)(self._compile)
        self._rule = lru_cache(maxsize=256)(self._compile_rule)

    def start(self, sample: Sample, generator: torch.Generator, noise: Source | None = None) -> Trajectory:
        """The sample's trajectory at its first step; noise: of its steps, where that is not the generator's.

        Raises SamplerRefused, InitImageRefused.
        """
        if sample.compat:
            rule = self._rule(sample.sampler, sample.steps, sample.steps_taken, sample.eta)
            return TableTrajectory(rule, noise or generator)
        scheduler = self._prototype(sample.sampler, sample.steps)
        if sample.init_image is not None and isinstance(scheduler, diffusers.PNDMScheduler):
            raise SamplerRefused(f"Sampler {sample.sampler} is PLMS, which cannot begin from an image; take DDIM.")
        first = sample.first_step * scheduler.order
        if first >= len(scheduler.timesteps):
            raise InitImageRefused(
                f"Strength {sample.strength:g} of {sample.steps} steps leaves none to run; raise strength or steps."
            )
        options = step_options(scheduler, sample.eta, generator)
        if table := self._table(sample.sampler, sample.steps, first, options.get("eta", 0.0)):
            return TableTrajectory(table, generator)
        return _follow(copy.deepcopy(scheduler), first, sample, generator)

    def levels(self, sample: Sample) -> Tensor:
        """How noisy its init image is along its way: `noise_levels`. Raises SamplerRefused."""
        if sample.compat:
            raise SamplerRefused("The original scripts fill no masks by a prompt; leave compat or mask_image out.")
        scheduler = self._prototype(sample.sampler, sample.steps)
        return noise_levels(scheduler, sample.first_step * scheduler.order)

    def _compile_rule(self, name: str, steps: int, taken: int, eta: float) -> Table:
        kind = self._config.get("prediction_type", "epsilon")
        if kind not in ("epsilon", "v_prediction"):
            raise SamplerRefused(f"Compatibility needs a checkpoint that predicts noise, not {kind}; leave compat out.")
        betas = make_scheduler(_resolve("DDIM"), self._config).betas.double()
        if len(betas) != TRAIN_STEPS:
            raise SamplerRefused(f"Compatibility needs a checkpoint of {TRAIN_STEPS} timesteps; leave compat out.")
        try:
            alphas = (1 - betas).cumprod(0).numpy()
            return compile_rule(name, alphas, steps, taken, eta, velocity=kind == "v_prediction")
        except (KeyError, IndexError, ValueError) as error:
            raise SamplerRefused(f"The original scripts had no sampler {name} in {steps} steps.") from error

    def _compile(self, name: str, steps: int, first: int, eta: float) -> Table | None:
        if self._sampling == "objects" or name in self._not_linear:
            return None
        try:
            return compile_table(self._prototype(name, steps), first, eta)
        except Exception as error:  # Whatever a scheduler makes of the probes, samples may do well with it.
            log.info("Sampler %s runs as scheduler objects: %s", name, error)
            self._not_linear.add(name)
            return None

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


def _follow(scheduler: Any, first: int, sample: Sample, generator: torch.Generator) -> ObjectTrajectory:
    begin(scheduler, first)
    # DPMSolverSDE draws from this seed and ignores the generator.
    if "noise_sampler_seed" in scheduler.config:
        scheduler.noise_sampler_seed = sample.seed
    return ObjectTrajectory(scheduler, scheduler.timesteps[first:], step_options(scheduler, sample.eta, generator))


def make_scheduler(sampler: samplers.Sampler, scheduler_config: Mapping[str, Any]) -> Any:
    """A diffusers scheduler with the checkpoint's noise schedule and prediction type, and the sampler's options."""
    scheduler_class = getattr(diffusers, sampler.scheduler or scheduler_config["_class_name"])
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
