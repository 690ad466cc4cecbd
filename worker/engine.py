"""The engine: one thread that owns the device, and steps the samples of any number of callers together."""

import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field
from enum import Enum

import torch

from worker.batcher import Batcher
from worker.errors import CheckpointRefused, EngineClosed, NonFiniteImage, OutOfMemory
from worker.progress import Progress
from worker.renderer import Flight, Renderer
from worker.sample import Picture, Pixels, Sample, Shape

log = logging.getLogger(__name__)

#: Seconds before a refused checkpoint is tried again: a trial costs the one that is open.
REFUSED_FOR = 60.0


@dataclass(eq=False, slots=True)
class Request:
    """A sample, whom to tell, and its flight once it is on the device."""

    sample: Sample
    priority: int
    future: "Future[Picture]" = field(default_factory=Future)
    flight: Flight | None = None

    @property
    def shape(self) -> Shape:
        """Samples of one shape can share a call."""
        return self.sample.shape

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
    """Renders samples, whatever checkpoints they want. `submit` and `close` may be called from any thread.

    open_renderer: opens the checkpoint of a model, on the engine's thread, after the last one is released; the renderer
    charges its time to the progress it is given. max_rows: the most rows of one UNet call; vae_batch: the most images
    of one VAE call. Both are halved when the device runs out of memory.
    Callbacks of the futures run on the engine's thread: keep them short.
    """

    def __init__(
        self, open_renderer: Callable[[str, Progress], Renderer], *, max_rows: int = 16, vae_batch: int = 4
    ) -> None:
        self.progress = Progress()
        self._open_renderer = open_renderer
        self._renderer: Renderer | None = None
        self._model: str | None = None
        self._refused: dict[str, tuple[float, CheckpointRefused]] = {}
        self._batcher: Batcher[Request] = Batcher(max_rows)
        self._vae_batch = vae_batch
        self._landed: dict[Shape, list[Request]] = {}
        self._inbox: deque[Request] = deque()
        self._cancelled = False
        self._closing = Closing.NO
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def renderer(self) -> Renderer:
        """The open checkpoint's. Only the engine's thread may use it."""
        assert self._renderer
        return self._renderer

    def max_rows(self, shape: Shape) -> int:
        """The most rows of one UNet call of that shape, as it stands now."""
        return self._batcher.limit(shape)

    def submit(self, sample: Sample, priority: int = 5) -> "Future[Picture]":
        """Queue a sample; priority 0 goes first, 9 last. Raises EngineClosed.

        Its future gives the picture or the sample's own error, and can be cancelled while the sample waits.
        """
        request = Request(sample, priority)
        with self._condition:
            if self._closing is not Closing.NO or not self._thread.is_alive():
                raise EngineClosed("The engine is closed and takes no more samples.")
            self._inbox.append(request)
            self._condition.notify()
        request.future.add_done_callback(self._heed)
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
        requests = self._batcher.share()
        if requests and requests[0].shape.model != self._model:
            requests = self._switch(requests)
        if requests := self._start(requests):
            self._advance(requests)
        self._decode()

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
        with self._condition, self.progress.stage("wait"):
            self._condition.wait_for(lambda: self._inbox or self._batcher or self._landed or self._closing.value)
            arrived, self._inbox = self._inbox, deque()
        self._take_in(arrived)
        if self._closing is not Closing.NO:
            self._shed()
            return bool(self._batcher or self._landed)
        if self._cancelled:
            self._forget_cancelled()
        return True

    def _take_in(self, arrived: deque[Request]) -> None:
        """Queue new requests, but for those of a checkpoint that was refused a moment ago."""
        for request in arrived:
            refused_at, refusal = self._refused.get(request.shape.model, (0.0, None))
            if refusal and time.monotonic() - refused_at < REFUSED_FOR:
                _refuse([request], copy(refusal))
            else:
                self._batcher.add(request)

    def _heed(self, future: "Future[Picture]") -> None:
        """Look after a future that ended, on the thread that ended it."""
        if future.cancelled():
            self._cancelled = True

    def _forget_cancelled(self) -> None:
        self._cancelled = False
        _cancel(self._batcher.withdraw(lambda request: request.future.cancelled()))

    def _shed(self) -> None:
        """The engine closes: give back what waits, and if so wanted what runs."""
        _cancel(self._batcher.withdraw())
        if self._closing is Closing.DROP:
            dropped = [*self._batcher.running(), *self._take_landed()]
            self._fail(dropped, EngineClosed("The engine stopped before the image was done."))

    def _switch(self, requests: list[Request]) -> list[Request]:
        """Open the checkpoint that they want in place of the last; those that can go on with it."""
        self._model, self._renderer, started = requests[0].shape.model, None, time.monotonic()
        _release_memory()
        try:
            with self.progress.stage("open"):
                self._renderer = self._open_renderer(self._model, self.progress)
        except Exception as error:
            self._give_up(self._model, error)
            return []
        self.progress.switches += 1
        log.info("Checkpoint %s is open after %.1f s.", self._model, time.monotonic() - started)
        return requests

    def _give_up(self, model: str, error: Exception) -> None:
        """Fail every request that wants a checkpoint that cannot be opened."""
        if isinstance(error, CheckpointRefused):
            # A copy has no traceback, on which hangs all that was loaded.
            self._refused[model] = time.monotonic(), copy(error)
        wanting = [*self._batcher.running(), *self._batcher.withdraw(lambda request: request.shape.model == model)]
        for request in self._batcher.running():
            self._batcher.remove(request)
        self._model = None
        _refuse(wanting, error)

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
            with self.progress.stage("sampler"):
                request.flight = self.renderer.start(request.sample)
        except Exception as error:
            self._fail([request], error)

    def _advance(self, requests: list[Request]) -> None:
        """One step of all of them in a shared UNet call."""
        self.progress.count(sum(request.rows for request in requests), self._batcher.limit(requests[0].shape))
        try:
            with self.progress.stage("sampler"):
                self.renderer.step(_flights(requests))
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
                self._landed.setdefault(request.shape, []).append(request)

    def _decode(self) -> None:
        """Decode what fills a VAE batch, and what nothing running will join."""
        for shape in list(self._landed):
            running = bool(self._batcher.running(shape))
            while len(landed := self._landed[shape]) >= (self._vae_batch if running else 1):
                self._landed[shape] = landed[self._vae_batch :]
                self._land(landed[: self._vae_batch])
            if not self._landed[shape]:
                del self._landed[shape]

    def _land(self, requests: list[Request]) -> None:
        try:
            with self.progress.stage("vae"):
                images = self.renderer.decode(_flights(requests))
        except torch.OutOfMemoryError as error:
            self._shrink_vae_batch(requests, error)
        except Exception as error:
            self._fail(requests, error)
        else:
            for request, flight, pixels in zip(requests, _flights(requests), images, strict=True):
                self._deliver(request, flight, pixels)

    def _deliver(self, request: Request, flight: Flight, pixels: Pixels | None) -> None:
        checkpoint = self.renderer.checkpoint
        if pixels is None:
            error = NonFiniteImage(f"The image came out as NaN or infinity in {checkpoint.dtype_name}.")
            return request.future.set_exception(error)
        self.progress.images += 1
        request.future.set_result(
            Picture(
                pixels=pixels,
                seconds=time.monotonic() - flight.started,
                rows=flight.rows,
                device=checkpoint.device_name,
                dtype=checkpoint.dtype_name,
                checkpoint_hash=checkpoint.hash,
            )
        )

    def _shrink_rows(self, requests: list[Request], error: Exception) -> None:
        """Go on with half the rows; the latents are as they were, for no sampler has stepped."""
        _release_memory(error)
        if len(requests) == 1:
            return self._fail(requests, _too_large(requests[0].sample, error))
        shape, rows = requests[0].shape, max(1, sum(request.rows for request in requests) // 2)
        self._batcher.set_limit(shape, rows)
        log.warning("Out of memory: going on with at most %d rows a UNet call of %dx%d.", rows, *shape[1:])

    def _shrink_vae_batch(self, requests: list[Request], error: Exception) -> None:
        _release_memory(error)
        if len(requests) == 1:
            return self._fail(requests, _too_large(requests[0].sample, error))
        self._vae_batch = max(1, len(requests) // 2)
        log.warning("Out of memory: going on with at most %d images a VAE call.", self._vae_batch)
        self._landed.setdefault(requests[0].shape, [])[:0] = requests

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


def _cancel(requests: list[Request]) -> None:
    for request in requests:
        request.future.cancel()
        # Without it those who wait in `as_completed` would never hear of it.
        request.future.set_running_or_notify_cancel()


def _refuse(requests: list[Request], error: Exception) -> None:
    """Fail requests that were never started."""
    for request in requests:
        if request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)


def _release_memory(error: Exception | None = None) -> None:
    """Give back what nothing uses any more; the tensors of a call that failed hang on its traceback."""
    if error:
        error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _too_large(sample: Sample, error: Exception) -> OutOfMemory:
    return OutOfMemory(
        f"An image of {sample.width}x{sample.height} does not fit in the device's memory even alone: {error}"
    )
