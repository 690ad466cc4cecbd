"""How fast images were made, by what they asked for: the work of steps that a worker does in a second."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row

WINDOW = 50
"""Most images that one rate is taken over."""


class Kind(NamedTuple):
    """What a rate holds for."""

    model: str
    width: int
    height: int
    sampler: str


class Rate(NamedTuple):
    """Work a second of one worker."""

    low: float
    middle: float
    high: float
    images: int
    """That it was measured on."""
    device: str
    """Of the newest of them."""


def work_of(steps: int, scale: float) -> int:
    """Rows of the UNet calls of an image: with guidance, a step takes two."""
    return steps * (2 if scale > 1 else 1)


def measure_rates(images: Iterable[Row[Any]]) -> dict[Kind, Rate]:
    """The rates of images, newest first. Only those made on the device that was used last count."""
    by_kind: dict[Kind, list[Row[Any]]] = defaultdict(list)
    for image in images:
        kind = Kind(image.model, image.width, image.height, image.sampler)
        if not by_kind[kind] or by_kind[kind][0].device == image.device:
            by_kind[kind].append(image)
    return {kind: _measure(found) for kind, found in by_kind.items()}


def _measure(images: Sequence[Row[Any]]) -> Rate:
    by_worker: dict[str, list[Row[Any]]] = defaultdict(list)
    for image in images:
        by_worker[image.worker].append(image)
    windows = [window for made in by_worker.values() for window in _windows(made)]
    rates = sorted(sum(_work(image) for image in window) / _busy(window) for window in windows)
    tenth = len(rates) // 10
    low, high = rates[tenth], rates[-1 - tenth]
    # One window knows no spread: a fifth either way is what load and temperature make.
    spread = (1.0, 1.0) if len(rates) > 1 else (0.8, 1.25)
    return Rate(low * spread[0], rates[len(rates) // 2], high * spread[1], len(images), images[0].device)


def _windows(images: Sequence[Row[Any]]) -> list[Sequence[Row[Any]]]:
    """Stretches of one worker's images, at least four where there are enough."""
    size = max(1, min(WINDOW, -(-len(images) // 4))) if len(images) > 8 else len(images)
    return [images[start : start + size] for start in range(0, len(images), size)]


def _work(image: Row[Any]) -> int:
    return work_of(image.steps_run or image.steps, image.scale)


def _busy(images: Iterable[Row[Any]]) -> float:
    """Seconds in which at least one of the images was in the making."""
    busy, until = 0.0, float("-inf")
    for start, end in sorted((image.created_at - image.seconds, image.created_at) for image in images):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return max(busy, 1e-3)
