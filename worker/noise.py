"""Where a sample's noise comes from: a generator of its own, or a CUDA generator's draws of a run it is part of."""

import math
from typing import TypeAlias

import torch
from torch import Tensor

from configs.compat import Draw, Noise
from worker import denoise, philox


class CudaNoise:
    """The noise that a record names, as a CUDA device would have drawn it."""

    def __init__(self, record: Noise) -> None:
        self._record = record
        self._drawn = 0
        """Draws for steps."""

    def start(self, shape: tuple[int, ...]) -> Tensor:
        """Of `shape`, float32, on the CPU: what the sample begins with."""
        start = self._record.start
        return self._numbers(start, shape, start.draw * self._calls(start, shape))

    def step(self, shape: tuple[int, ...]) -> Tensor:
        """The same for the next step that takes noise. The record must have a draw for it."""
        start, steps = self._record.start, self._record.steps
        assert steps, "noise for steps of a sample whose record has none"
        # Draws up to the start's have its size, all further ones that of the steps'.
        since = steps.draw + self._drawn - start.draw - 1
        self._drawn += 1
        calls = (start.draw + 1) * self._calls(start, shape) + since * self._calls(steps, shape)
        return self._numbers(steps, shape, calls)

    def _calls(self, draw: Draw, shape: tuple[int, ...]) -> int:
        return philox.calls_of(draw.rows * math.prod(shape), self._record.threads)

    def _numbers(self, draw: Draw, shape: tuple[int, ...], calls: int) -> Tensor:
        size = math.prod(shape)
        part = slice(draw.row * size, (draw.row + 1) * size)
        numbers = philox.normal(draw.seed, draw.rows * size, part, calls=calls, threads=self._record.threads)
        return torch.from_numpy(numbers).view(shape)


Source: TypeAlias = torch.Generator | CudaNoise


def draw_start(source: Source, shape: tuple[int, ...]) -> Tensor:
    """The noise that a sample begins with: Gaussian, of `shape`, float32, on the CPU."""
    return source.start(shape) if isinstance(source, CudaNoise) else denoise.draw_noise(shape, source)


def draw_step(source: Source, shape: tuple[int, ...]) -> Tensor:
    """The noise of a sample's next step that takes any."""
    return source.step(shape) if isinstance(source, CudaNoise) else denoise.draw_noise(shape, source)
