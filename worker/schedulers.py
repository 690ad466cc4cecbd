"""diffusers' scheduler objects: to be called as StableDiffusionPipeline does it."""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor


def begin(scheduler: Any, first: int) -> None:
    """Make timestep number `first` the next; by its value, one that stands twice would be taken at its second place."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)


def step_options(scheduler: Any, eta: float, generator: torch.Generator) -> dict[str, Any]:
    """Arguments that not every step takes. The pipelines give eta to all that do: TCD's own default is another."""
    accepted = inspect.signature(scheduler.step).parameters
    offered = {"eta": eta, "generator": generator}
    return {name: value for name, value in offered.items() if name in accepted}


def noise_levels(scheduler: Any, first: int) -> Tensor:
    """How much of an image's latents and of noise there is before each timestep from number `first` on, and at the end.

    (n + 1, 2), by a scheduler with its n + first timesteps set.
    """
    scheduler = copy.deepcopy(scheduler)
    clean, noise = torch.eye(2).view(2, 1, 1, 1, 2)
    levels = []
    for index in range(first, len(scheduler.timesteps)):
        begin(scheduler, index)
        levels.append(scheduler.add_noise(clean, noise, scheduler.timesteps[index : index + 1]).flatten())
    return torch.stack([*levels, torch.tensor([1.0, 0.0])])
