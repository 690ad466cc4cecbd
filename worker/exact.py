"""Exact mode: the bits of an image depend neither on its company in a call, nor on its place, nor on the order of jobs.

Calls of one shape run the same kernels whatever is in them, so all are padded to one shape. That a row then has the
same bits wherever it stands is promised by no library, and differs from card to card; so it is tested, once a shape,
with samples whose results are known: the canaries.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from typing import NamedTuple

import torch
import torch.utils.deterministic
from torch import Tensor

from worker.checkpoints import Checkpoint
from worker.device_loss import find_device_loss
from worker.errors import OutOfMemory
from worker.layout import APART, Layout
from worker.predictor import Predictor
from worker.renderer import Renderer
from worker.room import Rooms
from worker.sample import Sample

log = logging.getLogger(__name__)

#: Bytes and number of cuBLAS' workspaces, of the two settings under which it gives the same bits again (cuBLAS
#: documentation, 2.1.4 Results Reproducibility).
CUBLAS_WORKSPACES = ":4096:8"
#: Steps a canary flies: enough for the sampler to use what it keeps from one to the next.
STEPS = 2


class CallShape(NamedTuple):
    """What decides which kernels run: the size of the images in pixels, and how many go in a call."""

    width: int
    height: int
    rows: int
    """Of a UNet call."""
    images: int
    """Of a VAE call."""


class ExactLayout:
    """The layout of exact mode: padded to one shape where that passes the self-test, else one sample a call."""

    def __init__(self, checkpoint: Checkpoint, rooms: Rooms, predictor: Predictor | None = None) -> None:
        """rooms, predictor: those of the renderer that it is for."""
        self._checkpoint, self._rooms, self._predictor = checkpoint, rooms, predictor
        self._faults: dict[CallShape, str] = {}

    def __call__(self, width: int, height: int) -> Layout:
        """The layout for images of that size. Raises as `fault` does."""
        return APART if self.fault(width, height) else self._padded(width, height)

    def fault(self, width: int, height: int) -> str:
        """Why padded calls would not be exact; empty when they are.

        A shape is tested at its first use. Raises torch.OutOfMemoryError, OutOfMemory, DeviceLost.
        """
        while (padded := self._padded(width, height)).exact:
            shape = CallShape(width, height, padded.rows, padded.images)
            if shape in self._faults:
                return self._faults[shape]
            tested = Renderer(self._checkpoint, layout=self._padded, rooms=self._rooms, predictor=self._predictor)
            fault = find_fault(tested, shape)
            # When memory ran out in the test, there is another shape now.
            if self._padded(width, height) == padded:
                self._faults[shape] = fault
                _say(shape, fault)
        return ""

    def _padded(self, width: int, height: int) -> Layout:
        room = self._rooms.of(width, height)
        # Decoded in tiles a picture is another one, and the record does not tell.
        return Layout(room.rows, room.vae_batch, exact=room.tile is None)


def make_deterministic() -> None:
    """Let torch take algorithms that give the same bits each time. To be called before the device is used.

    One without such an algorithm only warns, except in the self-test: it shall cost the claim, not the images.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACES
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It helps to find programs that read memory they have not written, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@torch.no_grad()
def find_fault(renderer: Renderer, shape: CallShape) -> str:
    """What makes a difference to a canary's bits, in words; empty when nothing does.

    renderer: one that pads to the shape. Raises torch.OutOfMemoryError, OutOfMemory, DeviceLost.
    """
    try:
        with _strictly_deterministic():
            return _compare_latents(renderer, shape) or _compare_pictures(renderer, shape)
    except (torch.OutOfMemoryError, OutOfMemory):
        raise
    except Exception as error:
        if lost := find_device_loss(error):
            raise lost from error
        return str(error).partition("\n")[0].rstrip(".")


def _say(shape: CallShape, fault: str) -> None:
    size = f"{shape.width}x{shape.height}"
    if fault:
        log.warning("Images of %s are not exact here: %s. Each has calls of its own now.", size, fault)
    else:
        log.info("Images of %s are exact: %d rows a UNet call, %d images a VAE call.", size, shape.rows, shape.images)


def _compare_latents(renderer: Renderer, shape: CallShape) -> str:
    """Fly canaries, with guidance and without, alone and in company."""
    first, second = _canary(shape), replace(_canary(shape), scale=1.0)
    guided, lone = _strangers(shape)
    expected = {sample: renderer.fly([sample])[0].latents for sample in (first, second)}
    companies = {
        "a canary came out differently when repeated": [first],
        "a canary came out differently at another place": _fill([first], shape.rows),
        "a canary came out differently in other company": _fill([lone, second, first, guided], shape.rows),
    }
    for fault, samples in companies.items():
        flights = [flight for flight in renderer.fly(samples) if flight.sample in expected]
        if not all(_same_bits(flight.latents, expected[flight.sample]) for flight in flights):
            return fault
    return ""


def _compare_pictures(renderer: Renderer, shape: CallShape) -> str:
    """Decode a canary alone and in company."""
    canary, stranger = (renderer.start(sample) for sample in (_canary(shape), _strangers(shape)[0]))
    expected = renderer.decode_once([canary])[0][0].tobytes()
    companies = {
        "a canary was decoded differently when repeated": [canary],
        "a canary was decoded differently at another place": [canary] * shape.images,
        "a canary was decoded differently in other company": [stranger, canary] * (shape.images // 2),
    }
    for fault, flights in companies.items():
        pictures = zip(flights, renderer.decode_once(flights)[0], strict=True) if flights else ()
        if any(pixels.tobytes() != expected for flight, pixels in pictures if flight is canary):
            return fault
    return ""


def _canary(shape: CallShape) -> Sample:
    return Sample(
        model="",
        prompt="a yellow bird",
        sampler="DPM++ 2M Karras",
        steps=STEPS,
        scale=7.5,
        width=shape.width,
        height=shape.height,
        seed=1,
    )


def _strangers(shape: CallShape) -> list[Sample]:
    """Samples that differ from a canary in all that samples of one call can."""
    canary = _canary(shape)
    return [
        replace(canary, prompt="a mine", negative_prompt="light", sampler="Euler a", scale=3.0, seed=2),
        replace(canary, prompt="", sampler="DDIM", scale=1.0, seed=3, eta=1.0),
    ]


def _fill(samples: Sequence[Sample], rows: int) -> list[Sample]:
    """As many of the samples, over and over, as there are rows for; at least one."""
    chosen: list[Sample] = []
    for sample in cycle(samples):
        if chosen and sum(other.rows for other in [*chosen, sample]) > rows:
            return chosen
        chosen.append(sample)
    return chosen


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Also where both are NaN."""
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


@contextmanager
def _strictly_deterministic() -> Iterator[None]:
    """Raise RuntimeError where an algorithm is not deterministic."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warning = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warning)
