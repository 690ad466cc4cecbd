"""The samplers of the original scripts, for compatibility modes: their own timesteps and update rules, as tables.

diffusers' schedulers leave CompVis' grid where steps do not divide 1000, round DPM-Solver's timesteps to whole ones,
know no PLMS with noise, and place DPM2's midpoints elsewhere. So the rules stand here as their papers have them: DDIM
(Song et al. 2021), PLMS (Liu et al. 2022), DPM-Solver++ 2M (Lu et al. 2022), and the samplers of Karras et al. (2022).

A rule is written once, on unit vectors that stand for the latents, for what is kept from call to call, for the guided
prediction of noise, and for fresh noise; what it makes of them is a row of the step's matrix.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from configs.compat import TRAIN_STEPS, grid
from worker.tables import Table

Numbers: TypeAlias = NDArray[np.float64]
Form: TypeAlias = Numbers
"""Coefficients of `X`, `KEPT`, `PREDICTION` and `NOISE`, in this order."""

MOST_KEPT = 3
X, *KEPT, PREDICTION, NOISE = np.eye(MOST_KEPT + 3)
ADAMS_BASHFORTH = (
    np.array([3, -1]) / 2,
    np.array([23, -16, 5]) / 12,
    np.array([55, -59, 37, -9]) / 24,
)
"""Of the newest prediction, and of those before it."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(2)
"""Gauss and Legendre's integration, exact for the cubic polynomials of four predictions."""
ORDER = 4
"""Predictions that LMS uses."""
FEW = 15
"""Fewer steps than these end in one of first order, in DPM-Solver."""


class Call(NamedTuple):
    """One UNet call, and what becomes of its prediction."""

    timestep: float
    scale: float
    """Factor of the latents on their way into the UNet."""
    latents: Form
    """After it."""
    kept: tuple[Form, ...] = ()


class Rung(NamedTuple):
    """A timestep of CompVis' grid: cumulated alphas there and at the next lower one, and the noise put in between."""

    timestep: int
    alpha: float
    alpha_below: float
    sigma: float


def compile_rule(sampler: str, alphas: Numbers, steps: int, taken: int, eta: float, *, velocity: bool = False) -> Table:
    """The table of a sampler in so many steps, of which the last `taken` are run.

    alphas: the noise schedule's cumulated ones, (1000,). velocity: whether that is predicted, and not noise.
    """
    if sampler in ON_GRID:
        timesteps = grid(steps)[:taken]
        calls, factor = list(ON_GRID[sampler](_rungs(alphas, timesteps, eta))), 1.0
        # One rung above the first, as far as there is one.
        start = alphas[min(timesteps[-1] + timesteps.step, TRAIN_STEPS - 1)]
    elif sampler == "DPM++ 2M":
        calls, factor, start = list(_dpm_solver(alphas, steps)), 1.0, alphas[-1]
    else:
        levels = np.sqrt((1 - alphas) / alphas)
        sigmas = np.append(np.interp(np.linspace(TRAIN_STEPS - 1, 0, steps), np.arange(TRAIN_STEPS), levels), 0)
        calls, factor, start = list(BY_SIGMA[sampler](levels, sigmas)), float(sigmas[0]), alphas[-1]
    table = _table(calls, factor, (float(np.sqrt(start)), float(np.sqrt(1 - start))))
    if velocity:
        _take_velocity(table, alphas)
    return table


def _take_velocity(table: Table, alphas: Numbers) -> None:
    """Let the table take what UNets of Salimans and Ho (2022) predict; the noise is alpha · v + sigma · input.

    The originals had no such checkpoints. The shipped one is of this kind.
    """
    at = np.interp(table.timesteps, np.arange(TRAIN_STEPS), np.log(alphas) / 2)
    # By noise levels, the factor of the latents is alpha itself.
    alpha = torch.where(table.scales == 1, torch.from_numpy(np.exp(at)).float(), table.scales)[:, None]
    table.matrices[..., 0] += table.matrices[..., -2] * (1 - alpha**2).sqrt() * table.scales[:, None]
    table.matrices[..., -2] *= alpha


def _table(calls: list[Call], noise_factor: float, image_factors: tuple[float, float]) -> Table:
    size = 1 + max(len(call.kept) for call in calls)
    columns = [*range(size), MOST_KEPT + 1, MOST_KEPT + 2]
    matrices = np.zeros((len(calls), size, size + 2))
    for matrix, call in zip(matrices, calls, strict=True):
        matrix[: 1 + len(call.kept)] = np.stack([call.latents, *call.kept])[:, columns]
    return Table(
        timesteps=torch.tensor([call.timestep for call in calls], dtype=torch.float32),
        scales=torch.tensor([call.scale for call in calls], dtype=torch.float32),
        matrices=torch.from_numpy(matrices).float(),
        draws=tuple(bool(call.latents[-1]) for call in calls),
        noise_factor=torch.tensor(noise_factor, dtype=torch.float32),
        image_factors=torch.tensor(image_factors, dtype=torch.float32),
    )


def _rungs(alphas: Numbers, timesteps: range, eta: float) -> list[Rung]:
    """From the highest. Below the lowest timestep, 1, comes 0: so it was in CompVis."""
    rungs = []
    for below, timestep in reversed(list(pairwise([0, *timesteps]))):
        alpha, alpha_below = alphas[timestep], alphas[below]
        sigma = eta * np.sqrt((1 - alpha_below) / (1 - alpha) * (1 - alpha / alpha_below))
        rungs.append(Rung(timestep, alpha, alpha_below, sigma))
    return rungs


def _descend(rung: Rung, latents: Form, prediction: Form) -> Form:
    """Equation 12 of DDIM."""
    clean = (latents - np.sqrt(1 - rung.alpha) * prediction) / np.sqrt(rung.alpha)
    direction = np.sqrt(1 - rung.alpha_below - rung.sigma**2) * prediction
    lower: Form = np.sqrt(rung.alpha_below) * clean + direction + rung.sigma * NOISE
    return lower


def _ddim(rungs: list[Rung]) -> Iterator[Call]:
    for rung in rungs:
        yield Call(rung.timestep, 1, _descend(rung, X, PREDICTION))


def _plms(rungs: list[Rung]) -> Iterator[Call]:
    """The first step takes a second call one rung below, and is then taken again from where it began."""
    first, *others = rungs
    last, begun = KEPT[:2]
    yield Call(first.timestep, 1, _descend(first, X, PREDICTION), (PREDICTION, X))
    yield Call(rungs[:2][-1].timestep, 1, _descend(first, begun, (last + PREDICTION) / 2), (last,))
    for number, rung in enumerate(others):
        factors = ADAMS_BASHFORTH[min(number, 2)]
        recent = [PREDICTION, *KEPT][: len(factors)]
        yield Call(rung.timestep, 1, _descend(rung, X, factors @ np.stack(recent)), tuple(recent[:MOST_KEPT]))


def _dpm_solver(alphas: Numbers, steps: int) -> Iterator[Call]:
    """At timesteps between whole ones, where the logarithm of alpha is taken as linear; it ends at timestep 0."""
    timesteps = np.linspace(TRAIN_STEPS - 1, 0, steps + 1)
    alpha = np.exp(np.interp(timesteps, np.arange(TRAIN_STEPS), np.log(alphas) / 2))
    sigma = np.sqrt(1 - alpha**2)
    strides = np.diff(np.log(alpha / sigma))
    for i, stride in enumerate(strides):
        clean = blend = (X - sigma[i] * PREDICTION) / alpha[i]
        if i and not (steps < FEW and i == steps - 1):
            blend = clean + (clean - KEPT[0]) * stride / strides[i - 1] / 2
        latents = sigma[i + 1] / sigma[i] * X - alpha[i + 1] * np.expm1(-stride) * blend
        yield Call(timesteps[i], 1, latents, (clean,))


def _at(levels: Numbers, sigma: float, latents: Form, *kept: Form) -> Call:
    """A call at a noise level: its timestep lies between those of the two nearest in the schedule."""
    low, high = sorted(np.argsort(np.abs(levels - sigma), kind="stable")[:2])
    way = float(np.clip((levels[low] - sigma) / (levels[low] - levels[high]), 0, 1))
    return Call((1 - way) * low + way * high, (sigma**2 + 1) ** -0.5, latents, kept)


def _euler(levels: Numbers, sigmas: Numbers) -> Iterator[Call]:
    for here, below in pairwise(sigmas):
        yield _at(levels, here, X + (below - here) * PREDICTION)


def _euler_ancestral(levels: Numbers, sigmas: Numbers) -> Iterator[Call]:
    for here, below in pairwise(sigmas):
        down, up = _split(here, below)
        yield _at(levels, here, X + (down - here) * PREDICTION + up * NOISE)


def _heun(levels: Numbers, sigmas: Numbers) -> Iterator[Call]:
    slope, begun = KEPT[:2]
    for here, below in pairwise(sigmas):
        tried = _at(levels, here, X + (below - here) * PREDICTION, PREDICTION, X)
        yield tried if below else tried._replace(kept=())
        if below:
            yield _at(levels, below, begun + (below - here) * (slope + PREDICTION) / 2)


def _dpm2(levels: Numbers, sigmas: Numbers) -> Iterator[Call]:
    for here, below in pairwise(sigmas):
        yield from _midpoint(levels, here, below, 0.0)


def _dpm2_ancestral(levels: Numbers, sigmas: Numbers) -> Iterator[Call]:
    for here, below in pairwise(sigmas):
        yield from _midpoint(levels, here, *_split(here, below))


def _midpoint(levels: Numbers, here: float, below: float, up: float) -> Iterator[Call]:
    """To the middle of two noise levels by their cube roots; with the prediction there, the whole way."""
    middle = ((np.cbrt(here) + np.cbrt(below)) / 2) ** 3
    yield _at(levels, here, X + (middle - here) * PREDICTION, X)
    yield _at(levels, middle, KEPT[0] + (below - here) * PREDICTION + up * NOISE)


def _lms(levels: Numbers, sigmas: Numbers) -> Iterator[Call]:
    for i, here in enumerate(sigmas[:-1]):
        recent = [PREDICTION, *KEPT][: min(i + 1, ORDER)]
        factors = _lagrange(sigmas[: i + 2][-len(recent) - 1 :])
        yield _at(levels, here, X + factors @ np.stack(recent), *recent[:MOST_KEPT])


def _lagrange(sigmas: Numbers) -> Numbers:
    """Integrals from the last but one to the last of the polynomials that are 1 at one of the others, newest first."""
    *places, end = sigmas
    half = (end - places[-1]) / 2
    points = places[-1] + half * (NODES + 1)
    factors = []
    for place in reversed(places):
        others = [other for other in places if other != place]
        values = np.prod([(points - other) / (place - other) for other in others], axis=0)
        factors.append(half * float(np.sum(WEIGHTS * values)))
    return np.array(factors)


def _split(here: float, below: float) -> tuple[float, float]:
    """A noise level to step down to, and the noise that leads up to `below` from there."""
    up = np.sqrt(below**2 * (here**2 - below**2) / here**2)
    return float(np.sqrt(below**2 - up**2)), float(up)


ON_GRID: Mapping[str, Callable[[list[Rung]], Iterator[Call]]] = {"DDIM": _ddim, "PLMS": _plms}
BY_SIGMA: Mapping[str, Callable[[Numbers, Numbers], Iterator[Call]]] = {
    "Euler": _euler,
    "Euler a": _euler_ancestral,
    "Heun": _heun,
    "DPM2": _dpm2,
    "DPM2 a": _dpm2_ancestral,
    "LMS": _lms,
}
