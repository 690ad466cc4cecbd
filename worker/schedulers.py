"""diffusers' scheduler objects: to be called as StableDiffusionPipeline does it."""

import inspect
from typing import Any

import torch


def begin(scheduler: Any, first: int) -> None:
    """Make timestep number `first` the next; by its value, one that stands twice would be taken at its second place."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)


def step_options(scheduler: Any, eta: float, generator: torch.Generator) -> dict[str, Any]:
    """Arguments that not every step takes. The pipelines give eta to all that do: TCD's own default is another."""
    accepted = inspect.signature(scheduler.step).parameters
    offered = {"eta": eta, "generator": generator}
    return {name: value for name, value in offered.items() if name in accepted}
