"""The engine: one thread that owns the device, and steps the samples of any number of callers together."""

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum

import torch

from worker.batcher import Batcher
from worker.checkpoints import Checkpoint
from worker.errors import EngineClosed, NonFiniteImage, OutOfMemory
from worker.renderer import Flight, Renderer
from worker.sample import Picture, Pixels, Sample

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """A sign of life: steps done since the start, and the time (`time.monotonic`) of the last."""

    steps: int = 0
    at: float = field(default_factory=time.monotonic)

    def count(self) -> None:
        """One more step."""
        self.at = time.monotonic()
        self.steps += 1


@dataclass(eq=False, slots=True)
class Request:
    """A sample, whom to tell, and its flight once it is on the device."""

    sample: Sample
    future: "Future[Picture]" = field(default_factory=Future)
    flight: Flight | None = None

    @property
    def size(self) -> Hashable:
        """Samples of one size can share a call."""
        return self.sample.width, self.sample.height

    @property
    def rows(self) -> int:
        """Rows in a call."""
        return self.sample.rows


class Closing(Enum):
    """How the engine ends."""

    NO = 0
    FINISH = 1
    DROP = 2


class Engine:
    """Renders samples with one checkpoint. `submit` and `close` may be called from any thread.

    max_rows: the most rows of one UNet call; vae_batch: the most images of one VAE call. Both are halved when the
    device runs out of memory. Callbacks of the futures run on the engine's thread: keep them short.
    """

    def __init__(self, checkpoint: Checkpoint, *, max_rows: int = 16, vae_batch: int = 4) -> None:
        self.progress = Progress()
        self.checkpoint = checkpoint
        self._renderer = Renderer(checkpoint)
        self._batcher: Batcher[Request] = Batcher(max_rows)
        self._vae_batch = vae_batch
        self._landed: dict[Hashable, list[Request]] = {}
        self._inbox: deque[Request] = deque()
        self._closing = Closing.NO
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def max_rows(self) -> int:
        """The most rows of one UNet call, as it stands now."""
        return self._batcher.max_rows

    def submit(self, sample: Sample) -> "Future[Picture]":
        """Queue a sample. Its future gives the picture or the sample's own error. Raises EngineClosed."""
        request = Request(sample)
        with self._condition:
            if self._closing is not Closing.NO or not self._thread.is_alive():
                raise EngineClosed("The engine is closed and takes no more samples.")
            self._inbox.append(request)
            self._condition.notify()
        return request.future

    def close(self, finish: bool) -> None:
        """Cancel what is queued; finish what runs, or drop it (EngineClosed); return when the thread has ended.

        A second call may turn a finish into a drop, also from a signal handler that interrupts the first.
        """
        with self._condition:
            wanted = Closing.FINISH if finish else Closing.DROP
            self._closing = max(self._closing, wanted, key=lambda closing: closing.value)
            self._condition.notify()
        self._thread.join()

    def step(self) -> None:
        """One denoising step for the samples that share the next UNet call, and the pictures it completes."""
        if requests := self._start(self._batcher.share()):
            self._advance(requests)
        self._decode()
        self.progress.count()

    @torch.no_grad()
    def _run(self) -> None:
        while self._wait():
            try:
                self.step()
            except Exception as error:
                log.exception("The engine failed in a step; the samples in flight fail with it.")
                self._fail([*self._batcher.running(), *self._take_landed()], error)

    def _wait(self) -> bool:
        """Sleep until there is work; False when there will be none."""
        with self._condition:
            self._condition.wait_for(lambda: self._inbox or self._batcher or self._landed or self._closing.value)
            while self._inbox:
                self._batcher.add(self._inbox.popleft())
        if self._closing is not Closing.NO:
            self._shed()
        return bool(self._batcher or self._landed)

    def _shed(self) -> None:
        for request in self._batcher.withdraw():
            request.future.cancel()
            # Without it those who wait in `as_completed` would never hear of it.
            request.future.set_running_or_notify_cancel()
        if self._closing is Closing.DROP:
            dropped = [*self._batcher.running(), *self._take_landed()]
            self._fail(dropped, EngineClosed("The engine stopped before the image was done."))

    def _start(self, requests: list[Request]) -> list[Request]:
        """Those of the requests that are in flight, after the newcomers have been put there."""
        for request in requests:
            if request.flight is None:
                self._admit(request)
        return [request for request in requests if request.flight is not None]

    def _admit(self, request: Request) -> None:
        if not request.future.set_running_or_notify_cancel():
            return self._batcher.remove(request)
        try:
            request.flight = self._renderer.start(request.sample)
        except Exception as error:
            self._fail([request], error)

    def _advance(self, requests: list[Request]) -> None:
        """One step of all of them in a shared UNet call."""
        try:
            self._renderer.step(_flights(requests))
        except torch.OutOfMemoryError as error:
            return self._shrink_rows(requests, error)
        except Exception as error:
            log.exception("A UNet call failed; the %d samples in it fail with it.", len(requests))
            return self._fail(requests, error)
        for request, flight in zip(requests, _flights(requests), strict=True):
            if flight.error:
                self._fail([request], flight.error)
            elif flight.done:
                self._batcher.remove(request)
                self._landed.setdefault(request.size, []).append(request)

    def _decode(self) -> None:
        """Decode what fills a VAE batch, and what nothing running will join."""
        for size in list(self._landed):
            running = bool(self._batcher.running(size))
            while len(self._landed[size]) >= (self._vae_batch if running else 1):
                batch, self._landed[size] = self._landed[size][: self._vae_batch], self._landed[size][self._vae_batch :]
                self._land(batch)
            if not self._landed[size]:
                del self._landed[size]

    def _land(self, requests: list[Request]) -> None:
        try:
            images = self._renderer.decode(_flights(requests))
        except torch.OutOfMemoryError as error:
            self._shrink_vae_batch(requests, error)
        except Exception as error:
            self._fail(requests, error)
        else:
            for request, flight, pixels in zip(requests, _flights(requests), images, strict=True):
                self._deliver(request, flight, pixels)

    def _deliver(self, request: Request, flight: Flight, pixels: Pixels | None) -> None:
        if pixels is None:
            error = NonFiniteImage(f"The image came out as NaN or infinity in {self.checkpoint.dtype_name}.")
            return request.future.set_exception(error)
        request.future.set_result(
            Picture(
                pixels=pixels,
                seconds=time.monotonic() - flight.started,
                rows=flight.rows,
                device=self.checkpoint.device_name,
                dtype=self.checkpoint.dtype_name,
            )
        )

    def _shrink_rows(self, requests: list[Request], error: Exception) -> None:
        """Go on with half the rows; the latents are as they were, for no sampler has stepped."""
        _release_memory(self.checkpoint.device, error)
        if len(requests) == 1:
            return self._fail(requests, _too_large(requests[0].sample, error))
        self._batcher.max_rows = max(1, sum(request.rows for request in requests) // 2)
        log.warning("Out of memory: going on with at most %d rows a UNet call.", self._batcher.max_rows)

    def _shrink_vae_batch(self, requests: list[Request], error: Exception) -> None:
        _release_memory(self.checkpoint.device, error)
        if len(requests) == 1:
            return self._fail(requests, _too_large(requests[0].sample, error))
        self._vae_batch = max(1, len(requests) // 2)
        log.warning("Out of memory: going on with at most %d images a VAE call.", self._vae_batch)
        self._landed.setdefault(requests[0].size, [])[:0] = requests

    def _take_landed(self) -> list[Request]:
        landed = [request for requests in self._landed.values() for request in requests]
        self._landed.clear()
        return landed

    def _fail(self, requests: list[Request], error: Exception) -> None:
        running = self._batcher.running()
        for request in requests:
            if request in running:
                self._batcher.remove(request)
            if not request.future.done():
                request.future.set_exception(error)


def _flights(requests: list[Request]) -> list[Flight]:
    return [request.flight for request in requests if request.flight is not None]


def _release_memory(device: torch.device, error: Exception) -> None:
    """Give back what the failed call held: its tensors hang on the traceback."""
    error.__traceback__ = None
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _too_large(sample: Sample, error: Exception) -> OutOfMemory:
    return OutOfMemory(
        f"An image of {sample.width}x{sample.height} does not fit in the device's memory even alone: {error}"
    )
