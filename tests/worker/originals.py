"""The original scripts' samplers a second time, from the papers' formulas, step by step on whole tensors in float64.

Nothing here is shared with the product but the checkpoint's UNet, which `Predict` calls.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

Predict = Callable[[Tensor, float], Tensor]
"""The guided prediction of noise for latents at a timestep."""

BETAS = np.linspace(math.sqrt(0.00085), math.sqrt(0.0120), 1000) ** 2
ALPHAS = np.cumprod(1 - BETAS)
SIGMAS = np.sqrt(1 / ALPHAS - 1)


def timesteps(steps: int) -> list[int]:
    """From the highest."""
    return [t + 1 for t in range(0, 1000, 1000 // steps)][::-1]


def ddim(
    predict: Predict, x: Tensor, steps: int, eta: float = 0.0, noise: Iterator[Tensor] | None = None, taken: int = 1000
) -> Tensor:
    """Song et al. (2021), equations 12 and 16."""
    times = timesteps(steps)[-taken:]
    for t, earlier in zip(times, [*times[1:], 0], strict=True):
        a, b = ALPHAS[t], ALPHAS[earlier]
        sigma = eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
        e = predict(x, t)
        x = math.sqrt(b) * (x - math.sqrt(1 - a) * e) / math.sqrt(a) + math.sqrt(1 - b - sigma**2) * e
        if noise is not None:
            x = x + sigma * next(noise)
    return x


def transfer(x: Tensor, e: Tensor, t: int, earlier: int) -> Any:
    """Liu et al. (2022), equation 11."""
    a, b = ALPHAS[t], ALPHAS[earlier]
    return math.sqrt(b / a) * x - (b - a) / (math.sqrt(a) * (math.sqrt((1 - b) * a) + math.sqrt((1 - a) * b))) * e


def plms(predict: Predict, x: Tensor, steps: int) -> Tensor:
    """Liu et al. (2022), algorithm 2 and equation 12; the first step is the pseudo improved Euler of CompVis."""
    times, old = timesteps(steps), list[Tensor]()
    for t, earlier in zip(times, [*times[1:], 0], strict=True):
        e = predict(x, t)
        if not old:
            mean = (e + predict(transfer(x, e, t, earlier), times[min(1, len(times) - 1)])) / 2
        elif len(old) == 1:
            mean = 1.5 * e - 0.5 * old[0]
        elif len(old) == 2:
            mean = (23 * e - 16 * old[0] + 5 * old[1]) / 12
        else:
            mean = (55 * e - 59 * old[0] + 37 * old[1] - 9 * old[2]) / 24
        old = [e, *old][:3]
        x = transfer(x, mean, t, earlier)
    return x


def dpm_solver(predict: Predict, x: Tensor, steps: int) -> Tensor:
    """DPM-Solver++ 2M: Lu et al. (2022), algorithm 2; with fewer than 15 steps the last is of first order."""
    places = [999 * (1 - i / steps) for i in range(steps + 1)]
    halves = [float(np.interp(place, range(1000), 0.5 * np.log(ALPHAS))) for place in places]
    alpha, sigma = [math.exp(h) for h in halves], [math.sqrt(1 - math.exp(2 * h)) for h in halves]
    lam = [math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    clean: list[Tensor] = []
    for i in range(1, steps + 1):
        clean.append((x - sigma[i - 1] * predict(x, places[i - 1])) / alpha[i - 1])
        h, data = lam[i] - lam[i - 1], clean[-1]
        if i > 1 and not (i == steps and steps < 15):
            r = (lam[i - 1] - lam[i - 2]) / h
            data = (1 + 1 / (2 * r)) * clean[-1] - 1 / (2 * r) * clean[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (math.exp(-h) - 1) * data
    return x


def noise_levels(steps: int) -> list[float]:
    places = [999 - 999 * i / max(steps - 1, 1) for i in range(steps)]
    return [float(np.interp(place, range(1000), SIGMAS)) for place in places] + [0.0]


def slope(predict: Predict, x: Tensor, sigma: float) -> Tensor:
    """dx/dσ of Karras et al. (2022), equation 1, by the denoiser that a UNet of discrete timesteps makes."""
    near = sorted(sorted(range(1000), key=lambda i: abs(SIGMAS[i] - sigma))[:2])
    place = float(np.interp(sigma, SIGMAS[near], near))
    denoised = x - sigma * predict(x / math.sqrt(1 + sigma**2), place)
    return (x - denoised) / sigma


def ancestral(sigma: float, to: float) -> tuple[float, float]:
    up = math.sqrt(to**2 * (sigma**2 - to**2) / sigma**2)
    return math.sqrt(to**2 - up**2), up


def euler(predict: Predict, x: Tensor, steps: int) -> Tensor:
    """Karras et al. (2022), algorithm 2 without its second order and churn; the next with noise put back."""
    levels = noise_levels(steps)
    x = x * levels[0]
    for sigma, to in pairwise(levels):
        x = x + (to - sigma) * slope(predict, x, sigma)
    return x


def euler_ancestral(predict: Predict, x: Tensor, steps: int, noise: Iterator[Tensor]) -> Tensor:
    levels = noise_levels(steps)
    x = x * levels[0]
    for sigma, to in pairwise(levels):
        down, up = ancestral(sigma, to)
        x = x + (down - sigma) * slope(predict, x, sigma)
        x = x + (up * next(noise) if to else 0)
    return x


def heun(predict: Predict, x: Tensor, steps: int) -> Tensor:
    """Karras et al. (2022), algorithm 1."""
    levels = noise_levels(steps)
    x = x * levels[0]
    for sigma, to in pairwise(levels):
        d = slope(predict, x, sigma)
        tried = x + (to - sigma) * d
        x = x + (to - sigma) * (d + slope(predict, tried, to)) / 2 if to else tried
    return x


def dpm2(predict: Predict, x: Tensor, steps: int, noise: Iterator[Tensor] | None = None) -> Tensor:
    """Midpoints by Karras et al. (2022), equation 5, with rho 3; with noise, its ancestral kin."""
    levels = noise_levels(steps)
    x = x * levels[0]
    for sigma, to in pairwise(levels):
        down, up = ancestral(sigma, to) if noise is not None else (to, 0.0)
        middle = (0.5 * sigma ** (1 / 3) + 0.5 * down ** (1 / 3)) ** 3
        x = x + (down - sigma) * slope(predict, x + (middle - sigma) * slope(predict, x, sigma), middle)
        if noise is not None and to:
            x = x + up * next(noise)
    return x


def lms(predict: Predict, x: Tensor, steps: int) -> Tensor:
    """Linear multistep of order 4 with unequal strides: the polynomial through the last slopes, integrated."""
    levels, slopes = noise_levels(steps), list[Tensor]()
    x = x * levels[0]
    for i in range(steps):
        slopes.append(slope(predict, x, levels[i]))
        places = levels[max(0, i - 3) : i + 1]
        for j, d in zip(range(len(places)), slopes[-len(places) :], strict=True):
            x = x + lagrange_integral(places, j, levels[i], levels[i + 1]) * d
    return x


def lagrange_integral(places: Sequence[float], j: int, start: float, end: float) -> float:
    roots = [place for k, place in enumerate(places) if k != j]
    polynomial = np.poly1d(roots, r=True) if roots else np.poly1d([1.0])
    whole = (polynomial / np.prod([places[j] - root for root in roots])).integ()
    return float(whole(end) - whole(start))


def begin_from(clean: Tensor, noise: Tensor, steps: int, strength: float) -> Tensor:
    """CompVis' img2img: noised at the grid's place `int(strength * steps)`, one above the first to be denoised."""
    places = [*timesteps(steps)[::-1], 999]
    alpha = ALPHAS[places[int(strength * steps)]]
    return math.sqrt(alpha) * clean + math.sqrt(1 - alpha) * noise


def as_float32(unet: Callable[[Tensor, Tensor], Tensor]) -> Predict:
    """A UNet of float32, for latents in float64."""
    return lambda x, t: unet(x.float(), torch.tensor([float(t)])).double()
