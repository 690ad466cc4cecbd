"""An engine without a device: its pictures cost time and nothing else, and no two are alike.

A picture has noise of its own in it, so a file that replaced the one the ledger knows is found by its pixels.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos.crash_points import reach
from worker.errors import EngineClosed, SampleDropped
from worker.progress import Progress
from worker.sample import Form, Picture, Pixels, Sample

#: Samples made together, and steps of each.
ROWS, STEPS = 4, 5
#: Prompts with a meaning of their own: the process dies, each time; or hangs, the first time.
POISON, HANG = "a poisoned prompt", "a prompt that hangs"


@dataclass(eq=False)
class Request:
    sample: Sample
    priority: int
    alone: bool
    on_board: Callable[[], object]
    future: "Future[Picture]" = field(default_factory=Future)


class NullEngine:
    """`worker.engine.Engine` for those who use one, but for what it makes. ``seconds`` is for ROWS samples."""

    form: Form | None = None
    vram: int | None = None

    def __init__(
        self,
        *,
        seconds: float,
        folder: Path,
        on_hungry: Callable[[], object] = lambda: None,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self.progress = Progress()
        self._seconds, self._folder, self._on_hungry, self._settle = seconds, folder, on_hungry, settle
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._unwanted: set[Future[Picture]] = set()
        self._closing = self._dropping = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_hungry(self) -> bool:
        return len(self._waiting) < 2 * ROWS and not self._closing

    def submit(
        self, sample: Sample, priority: int = 5, *, alone: bool = False, on_board: Callable[[], object] = lambda: None
    ) -> "Future[Picture]":
        request = Request(sample, priority, alone, on_board)
        with self._condition:
            if self._closing:
                raise EngineClosed("The engine is closed and takes no more samples.")
            self._waiting.append(request)
            self._waiting.sort(key=lambda waiting: waiting.priority)
            self._condition.notify()
        return request.future

    def in_flight(self, _priority: int) -> "dict[Future[Picture], Any]":
        """Nothing to see."""
        return {}

    def drop(self, futures: "Iterable[Future[Picture]]") -> None:
        self._unwanted |= {future for future in futures if not future.cancel()}

    def close(self, finish: bool) -> None:
        with self._condition:
            self._closing, self._dropping = True, self._dropping or not finish
            for request in self._waiting:
                request.future.cancel()
                # Only now does one who waits for several hear of it.
                request.future.set_running_or_notify_cancel()
            self._waiting.clear()
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            with self.progress.stage("unet"):
                self._make(batch)

    def _take(self) -> list[Request]:
        with self._condition, self.progress.stage("wait"):
            self._condition.wait_for(lambda: self._waiting or self._closing)
            first = next((i for i, request in enumerate(self._waiting) if request.alone), ROWS)
            count = max(1, first) if first < ROWS else ROWS
            self._running, self._waiting = self._waiting[:count], self._waiting[count:]
        self._on_hungry()
        return self._running

    def _make(self, batch: list[Request]) -> None:
        if batch[0].alone:
            self._settle()
        boarded = [request for request in batch if request.future.set_running_or_notify_cancel()]
        for request in boarded:
            request.on_board()
            self._suffer(request.sample.prompt)
        reach("on the device")
        for _ in range(STEPS):
            time.sleep(self._seconds / STEPS)
            self.progress.beat()
        for request in boarded:
            self._finish(request)
        if batch[0].alone:
            self._settle()

    def _suffer(self, prompt: str) -> None:
        if POISON in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if HANG in prompt and not (self._folder / "hung").exists():
            (self._folder / "hung").touch()
            time.sleep(600)

    def _finish(self, request: Request) -> None:
        self.progress.images += 1
        try:
            if self._dropping:
                request.future.set_exception(EngineClosed("The engine stopped before the image was done."))
            elif request.future in self._unwanted:
                request.future.set_exception(SampleDropped("Nobody wants the image any more."))
            else:
                request.future.set_result(picture(request.sample, self._seconds))
        except InvalidStateError:
            return


def picture(sample: Sample, seconds: float) -> Picture:
    """A slope of the seed's colour, with a corner like no other."""
    return Picture(
        pixels=paint(sample.seed, sample.width, sample.height), seconds=seconds, rows=ROWS, images=ROWS, exact=False,
        device="null", dtype="float32", checkpoint_hash="0" * 64,
    )  # fmt: skip


def paint(seed: int, width: int, height: int) -> Pixels:
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    pixels[..., 0] = seed % 256
    pixels[:4, :4] = np.frombuffer(os.urandom(48), np.uint8).reshape(4, 4, 3)
    return pixels
