"""When the images of a batch were made: how fast, and how long each worker had nothing in the making."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: What makes a worker's name its own; the next one in its slot goes on with the same device.
OWN_DIGITS = re.compile(r"-[0-9a-f]{6}(?=@|$)")

#: Bars of a plot.
FEWEST_BINS, MOST_BINS = 8, 96


class Making(NamedTuple):
    """An image's time in the making, in seconds since 1970, and who made it."""

    worker: str
    device: str
    began: float
    ended: float


@dataclass(frozen=True)
class WorkerTime:
    """How a slot's workers spent the time from the beginning of their first image to the end of their last."""

    name: str
    device: str
    images: int
    seconds: float
    #: Of `seconds`, the share in which no image was in the making.
    idle: float
    #: Of each bin, the share in which one was.
    busy: tuple[float, ...]


@dataclass(frozen=True)
class Timeline:
    """A batch's images in bins of equal length."""

    began: float
    ended: float
    #: Images a second that were finished in each bin.
    rates: tuple[float, ...]
    workers: tuple[WorkerTime, ...]

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def rate(self) -> float:
        """Images a second over all of it."""
        return sum(worker.images for worker in self.workers) / self.seconds

    @property
    def idle(self) -> float:
        """The share of the workers' time in which they had no image in the making."""
        return sum(w.idle * w.seconds for w in self.workers) / sum(w.seconds for w in self.workers)


def draw(makings: Iterable[Making], bins: int | None = None) -> Timeline | None:
    """The timeline of images in any order; None without any. bins: as many as show something when it is None."""
    spans: dict[tuple[str, str], list[float]] = {}
    for making in makings:
        who = OWN_DIGITS.sub("", making.worker), making.device
        spans.setdefault(who, []).extend((making.began, making.ended))
    if not spans:
        return None
    times = {who: np.asarray(flat).reshape(-1, 2) for who, flat in spans.items()}
    began = min(float(each[:, 0].min()) for each in times.values())
    # No image takes no time; a clock that was set back must not end the report.
    ended = max(began + 1e-3, *(float(each[:, 1].max()) for each in times.values()))
    bins = bins or min(MOST_BINS, max(FEWEST_BINS, sum(map(len, times.values())) // 4))
    edges = np.linspace(began, ended, bins + 1)
    made, _ = np.histogram(np.concatenate([each[:, 1] for each in times.values()]), edges)
    rates = tuple((made / ((ended - began) / bins)).tolist())
    return Timeline(began, ended, rates, tuple(_spent(*who, each, edges) for who, each in sorted(times.items())))


def _spent(name: str, device: str, times: Floats, edges: Floats) -> WorkerTime:
    points, busy = _busy_until(times)
    shares = np.diff(np.interp(edges, points, busy)) / np.diff(edges)
    seconds = max(float(points[-1] - points[0]), 1e-3)
    return WorkerTime(name, device, len(times), seconds, 1 - float(busy[-1]) / seconds, tuple(shares.tolist()))


def _busy_until(times: Floats) -> tuple[Floats, Floats]:
    """Moments, and the seconds before each in which something was in the making; between them it grows evenly.

    times: (images, 2), of which any may overlap.
    """
    began, ended = times[np.argsort(times[:, 0])].T
    latest = np.maximum.accumulate(np.maximum(ended, began))
    apart = np.flatnonzero(began[1:] > latest[:-1])
    first, last = began[np.r_[0, apart + 1]], latest[np.r_[apart, len(latest) - 1]]
    points: Floats = np.stack([first, last], axis=1).ravel()
    lengths: Any = np.cumsum(last - first)
    return points, np.stack([np.r_[0.0, lengths[:-1]], lengths], axis=1).ravel()
