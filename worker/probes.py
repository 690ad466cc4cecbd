"""Probes: what a scheduler object makes of unit vectors, and of random numbers beside them, in every step.

Letters as in `tables`. All tensors are float64 and hold two samples, SHAPE. Before every step, the first sample of x,
of each s, of m and of z is made a unit vector of its own; so what comes out are the coefficients of a linear step. The
second sample is random, and goes its way undisturbed.
"""

from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.errors import NotLinear
from worker.schedulers import step_options

WIDTH = 12
"""Numbers of a half: one for x, nine for what is kept, one each for m and z, in this order."""

SHAPE = (2, 1, 1, WIDTH)

Array = NDArray[np.float64]


class Given(NamedTuple):
    """What goes in."""

    latents: Tensor
    """SHAPE, before the first step."""
    predictions: Tensor
    """(n, *SHAPE)"""
    noises: Tensor
    """(n, *SHAPE)"""


class Probe(NamedTuple):
    """What comes out of one step."""

    state: Array
    """(1 + kept, 2, WIDTH): the latents and the kept tensors."""
    scale: float
    """Factor of the latents on their way into the UNet,"""
    scaled: Array
    """(WIDTH,) and what it made of the random ones."""
    draws: bool
    """Whether the step took noise."""


def prepare(steps: int, scale: float) -> Given:
    """What is given in so many steps, the latents of this scale: the same each time."""
    random = torch.randn(2 * steps + 1, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    given = Given(scale * random[0], random[1::2], random[2::2])
    given.predictions[:, 0], given.noises[:, 0] = torch.eye(WIDTH)[-2:]
    return given


class Prober:
    """Drives a scheduler along its timesteps. It is used up by that."""

    def __init__(self, scheduler: Any, eta: float) -> None:
        self._scheduler = scheduler
        self._generator = torch.Generator()
        self._options = step_options(scheduler, eta, self._generator)
        self._step = _redirect_noise(scheduler.step, self._draw)
        self._noises: list[Tensor] = []

    def run(self, timesteps: Tensor, given: Given) -> list[Probe]:
        """One probe a timestep. Raises NotLinear."""
        latents, probes = given.latents, []
        for timestep, prediction, noise in zip(timesteps, given.predictions, given.noises, strict=True):
            self._noises = [noise]
            result, probe = self._probe(timestep, latents, prediction)
            probes.append(probe)
            latents = result.double().clone()
        return probes

    def _probe(self, timestep: Tensor, latents: Tensor, prediction: Tensor) -> tuple[Tensor, Probe]:
        self._place_unit_vectors([latents, *self._kept()])
        scaled = self._scheduler.scale_model_input(latents, timestep)
        scale = float(scaled[0, 0, 0, 0])
        result = self._step(prediction, timestep, latents, return_dict=False, **self._options)[0]
        state = torch.stack([tensor.double() for tensor in (result, *self._kept())]).view(-1, 2, WIDTH)
        return result, Probe(state.numpy(), scale, scaled[1].flatten().double().numpy(), not self._noises)

    def _kept(self) -> list[Tensor]:
        """The tensors of a probe's shape that the scheduler keeps, in a fixed order, each once."""
        attributes = (value for _, value in sorted(vars(self._scheduler).items()))
        values = [item for value in attributes for item in (value if isinstance(value, list) else [value])]
        return list({id(item): item for item in values if isinstance(item, Tensor) and item.shape == SHAPE}.values())

    def _place_unit_vectors(self, tensors: Sequence[Tensor]) -> None:
        """In place, so that the scheduler finds them where it keeps its own."""
        if len(tensors) > WIDTH - 2:
            raise NotLinear("It keeps too much.")
        for tensor, unit in zip(tensors, torch.eye(WIDTH), strict=False):
            tensor[0] = unit

    def _draw(self, shape: Sequence[int], generator: Any = None, dtype: Any = None, **_: Any) -> Tensor:
        """The known noise, for whoever draws as a sample does: once a step, of the latents' shape."""
        if generator is not self._generator or tuple(shape) != SHAPE or not self._noises:
            raise NotLinear("It draws noise in a way of its own.")
        return self._noises.pop().to(dtype or torch.float32)


def _redirect_noise(step: Any, draw: Callable[..., Tensor]) -> Any:
    """A scheduler's step that draws its noise from `draw`: a copy of the function, so that nobody else notices."""
    function = step.__func__
    scope = {**function.__globals__, "randn_tensor": draw}
    copied = FunctionType(function.__code__, scope, argdefs=function.__defaults__, closure=function.__closure__)
    return MethodType(copied, step.__self__)
