"""How images were made, and images made so again: number format, speedups, and the very shapes of their calls.

Calls are padded to the recorded shape, since a shape decides which kernels run. Images whose calls all had one shape
share calls again; one whose calls changed their shape, as others came and went, is made alone, with each as it was.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import torch

from configs.parameters import PRECISIONS
from configs.settings import Settings
from worker.call_rows import read_rows
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.errors import NonFiniteImage, OutOfMemory
from worker.landed import picture_of
from worker.layout import Layout
from worker.memory import release_memory
from worker.opened import OpenedCheckpoint
from worker.plain import PlainCheckpoint
from worker.plain_renderer import PlainRenderer
from worker.predictor import Predictor
from worker.renderer import Renderer
from worker.rendering import InFlight
from worker.room import Rooms
from worker.sample import Form, Picture, Pixels, Sample
from worker.samplers import Sampling
from worker.speedups import speed_up

log = logging.getLogger(__name__)

#: More rows of a UNet call, images of a VAE call and threads than this are no record of ours.
MOST_ROWS, MOST_IMAGES, MOST_THREADS = 4096, 64, 4096
SPEEDUPS = ("channels_last", "fused_projections")


class Making(NamedTuple):
    """What images have in common that are made again together."""

    form: Form
    speedups: tuple[str, ...]
    sampling: Sampling
    compiled: bool
    tiled: bool
    threads: int | None
    """Of a processor. None: as many as there are."""
    rows: tuple[int, ...]
    """Of each UNet call; one number where all had so many."""
    images: int
    """Of the VAE call."""

    @property
    def most_rows(self) -> int:
        """Rows of the largest UNet call."""
        return max(self.rows)

    @property
    def shared(self) -> bool:
        """Whether several images can be made together."""
        return len(self.rows) == 1

    def smaller(self) -> "Making | None":
        """For less memory, at the price of another shape; None where there is nothing left to give up."""
        if self.most_rows <= 2 and self.images == 1:
            return None
        return self._replace(rows=(max(2, 1 << (self.most_rows - 1).bit_length() - 1),), images=1)


def read_making(model: str, precision: str | None, made: Mapping[str, Any]) -> Making:
    """What a record says of it. Raises ValueError where that is nothing that can be."""
    versions = made.get("versions") or {}
    if not isinstance(versions, dict):
        raise ValueError("the record's versions are none")
    most = _number(made.get("batch_rows") or 2, MOST_ROWS)
    calls = read_rows(str(versions.get("rows") or most))
    if max(calls, default=0) != most:
        raise ValueError(f"the record's calls have {max(calls, default=0)} rows, and {most}")
    return Making(
        form=Form(model, made["dtype"] if made.get("dtype") in PRECISIONS else precision),
        speedups=tuple(name for name in SPEEDUPS if versions.get(name) is True),
        sampling="objects" if versions.get("sampling") == "objects" else "tables",
        compiled=versions.get("compiled") is True,
        tiled=versions.get("tiled") is True,
        threads=_number(versions["threads"], MOST_THREADS) if versions.get("threads") else None,
        rows=(most,) if set(calls) == {most} else tuple(calls),
        images=_number(made.get("vae_batch") or 1, MOST_IMAGES),
    )


def _number(value: object, most: int) -> int:
    number = int(str(value))
    if not 1 <= number <= most:
        raise ValueError(f"the record has {value}, where 1 to {most} can be")
    return number


class Studio:
    """Makes images as they were made. It keeps the checkpoint that it used last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = torch.get_num_threads()
        self._opened: tuple[object, Checkpoint | PlainCheckpoint] | None = None
        self._predictors: dict[int, tuple[Rooms, Predictor]] = {}

    @torch.no_grad()
    def render(self, making: Making, samples: Sequence[Sample]) -> Iterator[Picture | Exception]:
        """The picture of each sample, or why there is none; all are of one size.

        Raises CheckpointRefused, DeviceRefused.
        """
        torch.set_num_threads(making.threads or self._threads)
        checkpoint = self._open(making)
        most = making.most_rows if making.shared and isinstance(checkpoint, Checkpoint) else 0
        for group in _together(samples, most):
            yield from self._render_together(checkpoint, making, group)

    def _open(self, making: Making) -> Checkpoint | PlainCheckpoint:
        wanted = (making.form, making.speedups)
        if self._opened is None or self._opened[0] != wanted:
            self._opened = None
            self._predictors.clear()
            release_memory()
            self._opened = wanted, open_as(making, self._settings)
        return self._opened[1]

    def _render_together(
        self, checkpoint: Checkpoint | PlainCheckpoint, making: Making, samples: list[Sample]
    ) -> list[Picture | Exception]:
        """In one go; in smaller calls where memory runs out; and each alone where one fails."""
        try:
            if isinstance(checkpoint, PlainCheckpoint):
                return [_render_plain(checkpoint, making, samples[0])]
            return list(self._fly(checkpoint, making, samples))
        except (torch.OutOfMemoryError, OutOfMemory) as error:
            release_memory(error)
            self._predictors.clear()
            if (smaller := making.smaller()) is None:
                return [error]
            log.warning("Out of memory with %d rows a call; going on with %d.", making.most_rows, smaller.most_rows)
            return [found for sample in samples for found in self._render_together(checkpoint, smaller, [sample])]
        except Exception as error:
            if len(samples) == 1:
                return [error]
            return [found for sample in samples for found in self._render_together(checkpoint, making, [sample])]

    def _fly(self, checkpoint: Checkpoint, making: Making, samples: list[Sample]) -> Iterator[Picture]:
        rooms, predictor = self._predictor(checkpoint, making)
        renderer = Renderer(checkpoint, None, layout_of(making), rooms, making.sampling, predictor)
        if making.tiled:
            rooms.of(samples[0].width, samples[0].height).decode_in_tiles()
        flights = renderer.fly(samples)
        for first in range(0, len(flights), making.images):
            group = flights[first : first + making.images]
            for flight, pixels in zip(group, renderer.decode(group), strict=True):
                yield _picture(checkpoint, flight, pixels)

    def _predictor(self, checkpoint: Checkpoint, making: Making) -> tuple[Rooms, Predictor]:
        """Those for calls of so many rows: what one has compiled is not compiled again."""
        if making.most_rows not in self._predictors:
            rooms = Rooms(checkpoint=checkpoint, most=making.most_rows, cap=self._settings.vram)
            predictor = Predictor(checkpoint, rooms, switch="on" if making.compiled else "off")
            self._predictors = {making.most_rows: (rooms, predictor)}
        return self._predictors[making.most_rows]


def open_as(making: Making, settings: Settings) -> Checkpoint | PlainCheckpoint:
    """The checkpoint, with the speedups that it had. Raises CheckpointRefused, DeviceRefused."""
    dtype = making.form.precision or settings.dtype
    checkpoint = open_checkpoint(making.form.model, device=settings.device, dtype=dtype, offload=settings.offload)
    if isinstance(checkpoint, PlainCheckpoint):
        return checkpoint
    switches = {name: "on" if name in making.speedups else "off" for name in SPEEDUPS}
    return speed_up(checkpoint, **switches)  # type: ignore[arg-type]


def layout_of(making: Making) -> Callable[[int, int], Layout]:
    """A layout for one flight of samples: call by call it has the recorded rows."""
    rows = repeat(making.rows[0]) if making.shared else iter(making.rows)
    # What asks once more than there are rows is about to decode.
    return lambda _width, _height: Layout(next(rows, 0), making.images)


def _together(samples: Sequence[Sample], most: int) -> Iterator[list[Sample]]:
    """The samples by those that fit into calls of so many rows; each alone where there are none to share."""
    group: list[Sample] = []
    for sample in samples:
        if group and sum(other.rows for other in [*group, sample]) > most:
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def _render_plain(checkpoint: PlainCheckpoint, making: Making, sample: Sample) -> Picture:
    """By the pipeline itself: a call that was shared has as many copies of the sample."""
    renderer = PlainRenderer(checkpoint, default_sampler=sample.sampler)
    flights = [renderer.start(sample) for _ in range(making.images)]
    renderer.step(flights)
    if flights[0].error:
        raise flights[0].error
    return _picture(checkpoint, flights[0], flights[0].pixels)


def _picture(checkpoint: OpenedCheckpoint, flight: InFlight, pixels: Pixels | None) -> Picture:
    if pixels is None:
        raise flight.error or NonFiniteImage("The image came out as NaN or infinity.")
    return picture_of(checkpoint, flight, pixels)
