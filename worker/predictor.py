"""Noise predictions: UNet calls as they are, or compiled for calls of one shape.

Compiling takes minutes and pays in each call after it, so it is done where enough work waits. A compiled call has the
rows of a full one and no other; a smaller one is padded to it where that is faster than calling the UNet as it is.
"""

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from configs.settings import Switch
from worker.checkpoints import Checkpoint
from worker.conditions import Conditions
from worker.denoise import Rows, to_device
from worker.device_loss import find_device_loss
from worker.footprint import Placement
from worker.graph import Graph
from worker.memory import DeviceMemory, release_memory
from worker.profile import Compiled
from worker.progress import Progress
from worker.room import Rooms
from worker.speedups import is_on

log = logging.getLogger(__name__)

Call: TypeAlias = Callable[..., Tensor]
Work: TypeAlias = Callable[[int, int], int]
"""Rows × steps still to be done of images of a width and height."""

#: When nobody knows.
NO_WORK: Work = lambda _width, _height: 0  # noqa: E731 - a default
#: Torch's compiler.
BACKEND = "inductor"
#: What compiling is believed to cost and to bring where nobody has measured it. Published: 221 s without a cache
#: (OneDiff on an A800), and 1.3 times the speed at 32 rows (diffusers on an A100).
GUESS = Compiled(seconds=200.0, gain=1.25)
#: Calls that are timed, after one that is not.
CALLS = 3


@dataclass(slots=True)
class FullCall:
    """The full UNet call of one size."""

    rows: int
    known: Compiled
    """What compiling it costs and brings, as far as is known before."""
    call: Call | None = None
    """Compiled; None as long as it is not."""
    gain: float = 1.0
    """How many times faster that is."""
    seconds: float | None = None
    """Of the UNet as it is; None before it is timed."""
    shapes: list[torch.Size] | None = None
    """Of the inputs that the compiled call takes."""
    failed: bool = False


def keep_compiled(folder: Path) -> None:
    """Let the next worker find what this one compiles. Torch asks for it when it first compiles."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def call_unet(unet: Any, latents: Tensor, timesteps: Tensor, *conditions: Tensor) -> Tensor:
    """The predictions of a UNet for R rows, (R, C, h, w) float32. conditions: as `Conditions` has them."""
    predictions: Tensor = unet(latents, timesteps, return_dict=False, **Conditions(*conditions).arguments())[0]
    return predictions.float()


class Predictor:
    """Calls the UNet of one checkpoint. Not thread-safe: the engine's thread owns it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        rooms: Rooms | None = None,
        progress: Progress | None = None,
        *,
        switch: Switch = "off",
        work: Work = NO_WORK,
    ) -> None:
        """switch: the setting `compile`."""
        self._checkpoint, self._rooms, self._switch, self._work = checkpoint, rooms, switch, work
        self._progress = progress or Progress()
        self._memory = DeviceMemory(checkpoint.device)
        self._calls: dict[tuple[int, int], FullCall] = {}

    def fit(self, width: int, height: int, used: int) -> int:
        """The rows that a call should have of which so many are used: those of the compiled call, or no more."""
        full = self._calls.get((width, height))
        # As if the time of the UNet as it is went with its rows: the fewer they are, the more this flatters it.
        return full.rows if full and full.call and used * full.gain >= full.rows else used

    def predict(self, rows: Rows, width: int, height: int) -> tuple[Tensor, bool]:
        """The predictions for rows of images of that size, (R, C, h, w) float32, and whether by a compiled call."""
        inputs = self._inputs(rows)
        full = self._full_call(width, height)
        if full is None or len(rows.latents) != full.rows:
            return self._call(*inputs), False
        if full.call is None and not full.failed and self._pays(full, inputs, width, height):
            self._compile(full, inputs, width, height)
        compiled = full.call if full.shapes == _shapes(inputs) else None
        return (compiled or self._call)(*inputs), compiled is not None

    def _inputs(self, rows: Rows) -> list[Tensor]:
        latents = rows.latents.to(self._checkpoint.dtype)
        timesteps = to_device(rows.timesteps, self._checkpoint.device)
        return [latents, timesteps, *(part for part in rows.conditions if part is not None)]

    def _call(self, *inputs: Tensor) -> Tensor:
        return call_unet(self._checkpoint.unet, *inputs)

    def _full_call(self, width: int, height: int) -> FullCall | None:
        """That of a size; None where none is compiled: in that size not yet, or not at all."""
        # What autocast keeps of a call is gone when the call ends: a graph must not remember where it was.
        if self._rooms is None or self._switch == "off" or self._checkpoint.autocast or not self._is_in_place():
            self._calls.clear()
            return None
        room = self._rooms.of(width, height)
        full = self._calls.get((width, height))
        if full is None or full.rows != room.rows:
            if not room.tuner.settled:
                return None
            # Dropped before the next one is made: a graph holds memory.
            full = self._calls[width, height] = FullCall(room.rows, room.compiled.get(room.rows, GUESS))
        return full

    def _is_in_place(self) -> bool:
        """Whether the UNet's weights stay where they are; with `auto` all weights must: there is no memory to spare."""
        placement = self._checkpoint.footprint.placement
        return placement < (Placement.VISITING if self._switch == "auto" else Placement.STREAMED)

    def _pays(self, full: FullCall, inputs: list[Tensor], width: int, height: int) -> bool:
        """Whether compiling is wanted, and saves more time than it takes."""
        if self._switch == "on":
            return True
        if not is_on(self._switch, self._checkpoint):
            return False
        calls = self._work(width, height) / full.rows
        if calls and full.seconds is None:
            full.seconds = self._time(self._call, inputs)
        return calls * (full.seconds or 0.0) * (1 - 1 / full.known.gain) > full.known.seconds

    def _compile(self, full: FullCall, inputs: list[Tensor], width: int, height: int) -> None:
        """Compile the call and time it; where that fails, say so and leave the calls as they are."""
        assert self._rooms
        room, started = self._rooms.of(width, height), time.perf_counter()
        # Should the process die of it, the next one does not try: it gains nothing, as far as is known.
        room.learn_compiled(full.rows, Compiled(full.known.seconds, 1.0))
        try:
            with self._progress.stage("compile"):
                call = self._make_call(inputs)
                seconds = time.perf_counter() - started
                gain = self._time(self._call, inputs) / self._time(call, inputs)
        except Exception as error:
            if find_device_loss(error):
                raise
            release_memory(error)
            full.failed = True
            room.learn_compiled(full.rows, full.known)
            reason = " ".join(str(error).split("\n")[:2])
            log.warning("UNet calls of %dx%d stay as they are, since compiling failed: %s", width, height, reason)
            return
        log.info("UNet calls of %dx%d were compiled in %.1f s: %.2f times the speed.", width, height, seconds, gain)
        room.learn_compiled(full.rows, Compiled(round(seconds, 1), round(gain, 3)))
        if gain > 1 or self._switch == "on":
            full.call, full.gain, full.shapes = call, max(gain, 1.0), _shapes(inputs)
        else:
            full.failed = True

    def _make_call(self, inputs: list[Tensor]) -> Call:
        if not any(full.call for full in self._calls.values()):
            # What was compiled for the last checkpoint.
            torch.compiler.reset()
        unet = self._checkpoint.unet
        call: Call = torch.compile(partial(call_unet, unet), backend=BACKEND, fullgraph=True, dynamic=False)
        if self._checkpoint.device.type == "cuda":
            call = Graph(call, inputs)
        call(*inputs)
        self._memory.synchronize()
        return call

    def _time(self, call: Call, inputs: list[Tensor]) -> float:
        """Seconds of the fastest of some calls."""
        best = math.inf
        for _ in range(CALLS + 1):
            started = time.perf_counter()
            call(*inputs)
            self._memory.synchronize()
            best = min(best, time.perf_counter() - started)
        return best


def _shapes(tensors: list[Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors]
