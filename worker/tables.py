"""Linear samplers as numbers: each step of a scheduler compiled into a small matrix, so that they step as one.

A step of most schedulers is linear in all that it touches:

    [x', s'1 … s'S] = L_i [x, s1 … sS, m, z]

x: the latents; s: what the scheduler keeps between steps (derivatives, earlier predictions); m: the guided
prediction; z: fresh noise. No L_i is derived here: it is read from probes of the real scheduler object. The table has
to give the same as the scheduler for random numbers too. One that clips or thresholds, or draws noise of its own
(DPMSolverSDE's Brownian tree), does not come out so and is refused.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker import denoise, probes
from worker.errors import NotLinear
from worker.probes import WIDTH, Array, Given, Probe, Prober
from worker.schedulers import begin

TOLERANCE = 1e-5
"""Largest difference of a table and its scheduler after one step, relative to the largest number that went in. Rounding
to float32 makes up to 1e-6, and more where the noise schedule ends in pure noise; what is not linear makes 1e-2."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A sampler's whole way in n steps. On the CPU: what a step needs goes to the device with its neighbours'."""

    timesteps: Tensor
    """(n,) float32"""
    scales: Tensor
    """(n,) float32: factors of the latents on their way into the UNet."""
    matrices: Tensor
    """(n, 1 + S, S + 3) float32: the L_i. S, the most tensors ever kept, is 0 to 3 for our samplers."""
    draws: tuple[bool, ...]
    """n: whether the step takes noise."""
    noise_factor: Tensor
    """() float32: of the noise a picture begins with."""
    image_factors: Tensor
    """(2,) float32: of an init image's latents, and of the noise over them."""


@torch.no_grad()
def compile_table(scheduler: Any, first: int, eta: float) -> Table:
    """The table of a scheduler with its timesteps set, from timestep number `first` on. Raises NotLinear."""
    scheduler = copy.deepcopy(scheduler)
    begin(scheduler, first)
    timesteps = scheduler.timesteps[first:]
    noise_factor = torch.as_tensor(scheduler.init_noise_sigma, dtype=torch.float32)
    image_factors = _image_factors(scheduler, timesteps[:1])
    if hasattr(scheduler, "get_lms_coefficient"):
        # It integrates polynomials made of sigmas, number by number: with tensors that takes thirty times as long.
        scheduler.sigmas = scheduler.sigmas.numpy()
    given = probes.prepare(len(timesteps), float(noise_factor))
    found = Prober(scheduler, eta).run(timesteps, given)
    states, matrices = _compact(given, [probe.state for probe in found])
    scales, draws = torch.tensor([probe.scale for probe in found]), tuple(probe.draws for probe in found)
    table = Table(timesteps.float(), scales, matrices.float(), draws, noise_factor, image_factors)
    _verify(table, states, given, found)
    return table


def _image_factors(scheduler: Any, timestep: Tensor) -> Tensor:
    clean, noise = torch.eye(2).view(2, 1, 1, 1, 2)
    return scheduler.add_noise(clean, noise, timestep).flatten()  # type: ignore[no-any-return]


def _compact(given: Given, states: Sequence[Array]) -> tuple[Tensor, Tensor]:
    """Of what a scheduler keeps, only what it reads again; states: those after each of n steps.

    Gives the random halves of the states before and after each step (n + 1, 1 + S, WIDTH), and the matrices.
    """
    read = _read_later([state[:, 0] for state in states])
    size = max(map(len, read))
    halves, matrices = np.zeros((len(read), size, WIDTH)), np.zeros((len(states), size, size + 2))
    halves[0, 0] = given.latents[1].flatten()
    for i, state in enumerate(states):
        rows, columns = read[i + 1], [*read[i], -2, -1]
        halves[i + 1, : len(rows)] = state[rows, 1]
        matrices[i][np.ix_(range(len(rows)), [*range(len(read[i])), -2, -1])] = state[:, 0][np.ix_(rows, columns)]
    return torch.from_numpy(halves), torch.from_numpy(matrices)


def _read_later(matrices: Sequence[Array]) -> list[list[int]]:
    """Which of the state matters before each step and after the last: 0, the latents, and what a later step reads."""
    read, sizes = [[0]], [1, *map(len, matrices[:-1])]
    for matrix, size in zip(reversed(matrices), reversed(sizes), strict=True):
        columns = set(np.flatnonzero(np.abs(matrix[read[0], : WIDTH - 2]).sum(axis=0)).tolist())
        if max(columns, default=0) >= size:
            raise NotLinear("It takes in what it was not given.")
        read.insert(0, sorted({0, *columns}))
    return read


def _verify(table: Table, states: Tensor, given: Given, found: Sequence[Probe]) -> None:
    """Take every step of the random halves again, with the table. Raises NotLinear."""
    predictions, noises = (tensor[:, 1].flatten(1)[:, None] for tensor in (given.predictions, given.noises))
    inputs = torch.cat([states[:-1], predictions, noises], dim=1)
    scaled = torch.from_numpy(np.stack([probe.scaled for probe in found]))
    _compare(denoise.combine(table.matrices.double(), inputs), states[1:], inputs)
    _compare(table.scales[:, None] * states[:-1, 0], scaled, scaled)


def _compare(result: Tensor, expected: Tensor, scale: Tensor) -> None:
    """All of shape (n, …); each step by the largest number of its own `scale`. Raises NotLinear."""
    difference = (result - expected).abs().flatten(1).amax(1) / scale.abs().flatten(1).amax(1)
    if not float(difference.max()) <= TOLERANCE:
        raise NotLinear(f"Its table is off by {float(difference.max()):.2g}.")
