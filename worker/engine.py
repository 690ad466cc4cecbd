"""The engine: one thread that owns the device, and steps the samples of any number of callers together."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from copy import copy
from enum import Enum

import torch

from worker.batcher import Batcher
from worker.device_loss import find_device_loss
from worker.errors import CheckpointRefused, DeviceLost, EngineClosed, NonFiniteImage, OutOfMemory, SampleDropped
from worker.landed import Landed, picture_of
from worker.memory import release_memory
from worker.progress import Progress
from worker.rendering import AnyRenderer, InFlight
from worker.request import Request, cancel, flights, refuse
from worker.room import Room
from worker.safety import SafetyChecker, score
from worker.sample import Form, Picture, Pixels, Sample, Shape

log = logging.getLogger(__name__)

#: Seconds before a refused checkpoint is tried again: a trial costs the one that is open.
REFUSED_FOR = 60.0


class Closing(Enum):
    """How the engine ends."""

    NO = 0
    FINISH = 1
    DROP = 2


class Engine:
    """Renders samples, whatever checkpoints they want. `submit` and `close` may be called from any thread.

    open_renderer: opens a checkpoint, on the engine's thread, after the last one is released; the renderer
    charges its time to the progress it is given. max_rows: the most rows of one UNet call; the renderer's rooms may say
    less for a size. vae_batch: images that are awaited for one VAE call. checker: looks at every picture. on_hungry:
    called before each UNet call that finds the engine hungry. on_lost: called first when the device is lost; the engine
    ends with it, and so should the process. settle: called before a sample that is made alone, and before the next one;
    returns when all that left the device is saved. All of them, and the callbacks of the futures, run on the engine's
    thread: keep them short.
    """

    def __init__(
        self,
        open_renderer: Callable[[Form, Progress], AnyRenderer],
        *,
        max_rows: int = 16,
        vae_batch: int = 4,
        checker: SafetyChecker | None = None,
        on_hungry: Callable[[], object] = lambda: None,
        on_lost: Callable[[], object] = lambda: None,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self.progress = Progress()
        self._open_renderer = open_renderer
        self._renderer: AnyRenderer | None = None
        self._form: Form | None = None
        self._refused: dict[Form, tuple[float, CheckpointRefused]] = {}
        self._most_rows = max_rows
        # One sample fits in any case; how many more, the renderer's room for the size will say.
        self._batcher: Batcher[Request] = Batcher(1)
        self._checker = checker
        self._landed = Landed(vae_batch)
        self._inbox: deque[Request] = deque()
        self._cancelled = False
        self._unwanted: set[Future[Picture]] = set()
        self._settle = settle
        self._was_alone = False
        self._hungry = True
        self._on_hungry = on_hungry
        self._lost: DeviceLost | None = None
        self._on_lost = on_lost
        self._closing = Closing.NO
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def renderer(self) -> AnyRenderer:
        """The open checkpoint's. Only the engine's thread may use it."""
        assert self._renderer
        return self._renderer

    @property
    def form(self) -> Form | None:
        """The checkpoint that is open or being opened. May be asked from any thread."""
        return self._form

    @property
    def vram(self) -> int | None:
        """Bytes of the card that torch has taken; None without one. May be asked from any thread."""
        # Asking wakes no driver that sleeps.
        return torch.cuda.memory_reserved() if torch.cuda.is_initialized() else None

    def max_rows(self, shape: Shape) -> int:
        """The most rows of one UNet call of that shape, as it stands now."""
        return self._batcher.limit(shape)

    def waiting_work(self, shape: Shape) -> int:
        """Rows × steps of the samples of that shape that wait. Only the engine's thread may ask."""
        return sum(request.sample.rows * request.sample.steps for request in self._batcher.waiting(shape))

    @property
    def is_hungry(self) -> bool:
        """Whether more samples would help. May be asked from any thread."""
        return self._hungry and not self._inbox and self._closing is Closing.NO

    def submit(
        self,
        sample: Sample,
        priority: int = 5,
        *,
        alone: bool = False,
        on_board: Callable[[], object] = lambda: None,
    ) -> "Future[Picture]":
        """Queue a sample; priority 0 goes first, 9 last; alone: while nothing else is made. Raises EngineClosed.

        Its future gives the picture or the sample's own error, and can be cancelled while the sample waits; `drop` does
        it at any time. on_board: called when it is about to touch the device.
        """
        request = Request(sample, priority, alone, on_board)
        with self._condition:
            if self._closing is not Closing.NO or not self._thread.is_alive():
                raise EngineClosed("The engine is closed and takes no more samples.")
            self._inbox.append(request)
            self._condition.notify()
        request.future.add_done_callback(self._heed)
        return request.future

    def in_flight(self, priority: int) -> "dict[Future[Picture], InFlight]":
        """The samples on the device that are at least so urgent. May be asked from any thread."""
        requests = [request for request in self._batcher.running() if request.priority <= priority]
        return {request.future: request.flight for request in requests if request.flight is not None}

    def drop(self, futures: "Iterable[Future[Picture]]") -> None:
        """Give samples up wherever they are: their futures end cancelled, or with SampleDropped by the next step."""
        running = {future for future in futures if not future.cancel()}
        with self._condition:
            self._unwanted |= running
            self._cancelled = True

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
        if requests and requests[0].shape.form != self._form:
            requests = self._switch(requests)
        while requests and self._follow_room(requests[0].shape):
            requests = self._batcher.share()
        # Before the call: what this fetches comes while it runs.
        self._look_ahead()
        if requests := self._start(requests):
            self._advance(requests)
        self._decode()

    def _look_ahead(self) -> None:
        self._hungry = self._batcher.is_hungry()
        if self.is_hungry:
            self._on_hungry()

    @torch.no_grad()
    def _run(self) -> None:
        while not self._lost and self._wait():
            try:
                self.step()
            except Exception as error:
                log.exception("The engine failed in a step; the samples in flight fail with it.")
                self._fail([*self._batcher.running(), *self._landed.take()], error)
        if self._lost:
            self._abandon(self._lost)

    def _abandon(self, error: DeviceLost) -> None:
        """Without a device: what was on it fails, what waits is given back, and nothing more is taken."""
        with self._condition:
            self._closing = Closing.DROP
            waiting = [*self._inbox, *self._batcher.withdraw()]
        cancel(waiting)
        self._fail([*self._batcher.running(), *self._landed.take()], error)

    def _find_loss(self, error: Exception) -> DeviceLost | None:
        """What to raise instead where the device is lost with the error; then this engine ends."""
        lost = find_device_loss(error)
        if lost and not self._lost:
            log.critical("%s", lost)
            self._lost = lost
            self._on_lost()
        return lost

    def _wait(self) -> bool:
        """Sleep until there is work; False when there will be none."""
        with self._condition, self.progress.stage("wait"):
            self._condition.wait_for(lambda: self._inbox or self._batcher or self._landed or self._closing.value)
            self._take_in(self._inbox)
            # In this order: whoever finds the inbox empty must not find the hunger from before.
            self._hungry = self._batcher.is_hungry()
            self._inbox.clear()
        if self._cancelled:
            self._forget_cancelled()
        if self._closing is not Closing.NO:
            self._shed()
            return bool(self._batcher or self._landed)
        return True

    def _take_in(self, arrived: deque[Request]) -> None:
        """Queue new requests, but for those of a checkpoint that was refused a moment ago."""
        for request in arrived:
            refused_at, refusal = self._refused.get(request.shape.form, (0.0, None))
            if refusal and time.monotonic() - refused_at < REFUSED_FOR:
                refuse([request], copy(refusal))
            else:
                self._batcher.add(request)

    def _heed(self, future: "Future[Picture]") -> None:
        """Look after a future that ended, on the thread that ended it."""
        if future.cancelled():
            self._cancelled = True

    def _forget_cancelled(self) -> None:
        with self._condition:
            unwanted, self._unwanted, self._cancelled = self._unwanted, set(), False
        cancel(self._batcher.withdraw(lambda request: request.future.cancelled()))
        dropped = [request for request in self._boarded() if request.future in unwanted]
        self._landed.leave_out(dropped)
        self._fail(dropped, SampleDropped("Nobody wants the image any more."))

    def _shed(self) -> None:
        """The engine closes: give back what waits, and if so wanted what runs."""
        cancel(self._batcher.withdraw())
        if self._closing is Closing.DROP:
            dropped = [*self._batcher.running(), *self._landed.take()]
            self._fail(dropped, EngineClosed("The engine stopped before the image was done."))

    def _switch(self, requests: list[Request]) -> list[Request]:
        """Open the checkpoint that they want in place of the last; those that can go on with it."""
        self._form, self._renderer, started = requests[0].shape.form, None, time.monotonic()
        if not (requests := self._board(requests)):
            self._form = None
            return []
        release_memory()
        try:
            with self.progress.stage("open"):
                self._renderer = self._open_renderer(self._form, self.progress)
        except Exception as error:
            self._give_up(self._form, error)
            return []
        self.progress.switches += 1
        log.info("Checkpoint %s is open after %.1f s.", self._form, time.monotonic() - started)
        return requests

    def _give_up(self, form: Form, error: Exception) -> None:
        """Fail every request that wants a checkpoint that cannot be opened."""
        if lost := self._find_loss(error):
            error = EngineClosed(str(lost))
        if isinstance(error, CheckpointRefused):
            # A copy has no traceback, on which hangs all that was loaded.
            self._refused[form] = time.monotonic(), copy(error)
        wanting = [*self._batcher.running(), *self._batcher.withdraw(lambda request: request.shape.form == form)]
        for request in self._batcher.running():
            self._batcher.remove(request)
        self._form = None
        refuse(wanting, error)

    def _room(self, shape: Shape) -> Room:
        return self.renderer.rooms.of(shape.width, shape.height)

    def _follow_room(self, shape: Shape) -> bool:
        """Let calls of a shape have as many rows as its room; whether that is something new."""
        rows = min(self._most_rows, self._room(shape).rows)
        if rows == self._batcher.limit(shape):
            return False
        self._batcher.set_limit(shape, rows)
        return True

    def _start(self, requests: list[Request]) -> list[Request]:
        """Those of the requests that are in flight, after the newcomers have been put there."""
        for request in self._board(requests):
            if request.flight is None:
                self._admit(request)
        return [request for request in requests if request.flight is not None]

    def _board(self, requests: list[Request]) -> list[Request]:
        """Those of the requests that may touch the device: from now on each may be why the process dies."""
        for request in requests:
            if not request.boarded and (request.alone or self._was_alone):
                self._settle()
                self._was_alone = request.alone
            if not request.board():
                self._batcher.remove(request)
        return [request for request in requests if request.boarded]

    def _admit(self, request: Request) -> None:
        try:
            with self.progress.stage("sampler"):
                request.flight = self.renderer.start(request.sample)
            self.progress.begin()
        except Exception as error:
            self._fail([request], error)

    def _advance(self, requests: list[Request]) -> None:
        """One step of all of them in a shared UNet call."""
        shape, rows = requests[0].shape, sum(request.sample.rows for request in requests)
        self.progress.count(rows, self._batcher.limit(shape))
        try:
            with self.progress.stage("sampler"), self._room(shape).tuner.timed(rows, self._batcher.waiting_rows(shape)):
                self.renderer.step(flights(requests))
        except torch.OutOfMemoryError as error:
            return self._shrink(requests, error)
        except Exception as error:
            log.exception("A UNet call failed; the %d samples in it fail with it.", len(requests))
            return self._fail(requests, error)
        for request, flight in zip(requests, flights(requests), strict=True):
            if flight.error:
                self._fail([request], flight.error)
            elif flight.done:
                self._batcher.remove(request)
                self._landed.add(request)

    def _decode(self) -> None:
        for requests in self._landed.batches(self._batcher.running):
            self._land(requests)

    def _land(self, requests: list[Request]) -> None:
        try:
            with self.progress.stage("vae"):
                images = self.renderer.decode(flights(requests))
            with self.progress.stage("safety"):
                scores = score(self._checker, images)
        except Exception as error:
            self._fail(requests, error)
        else:
            for request, flight, pixels, found in zip(requests, flights(requests), images, scores, strict=True):
                self._deliver(request, flight, pixels, found)

    def _deliver(self, request: Request, flight: InFlight, pixels: Pixels | None, safety_score: float | None) -> None:
        if pixels is None:
            return self._fail([request], flight.error or NonFiniteImage("The image came out as NaN or infinity."))
        self.progress.images += 1
        request.future.set_result(picture_of(self.renderer.checkpoint, flight, pixels, safety_score))

    def _shrink(self, requests: list[Request], error: torch.OutOfMemoryError) -> None:
        """Go on with less room; the latents are as they were, for no sampler has stepped."""
        shape, widest = requests[0].shape, max(request.sample.rows for request in requests)
        try:
            # Not the rows in use: a call may be padded.
            self._room(shape).shrink(max(widest, self._batcher.limit(shape)), widest, error)
        except OutOfMemory as refusal:
            self._fail(requests, refusal)

    def _boarded(self) -> list[Request]:
        """All that is on the device."""
        return [*self._batcher.running(), *self._landed]

    def _fail(self, requests: list[Request], error: Exception) -> None:
        running, lost = self._batcher.running(), self._find_loss(error)
        for request in requests:
            if request in running:
                self._batcher.remove(request)
            if not request.future.done():
                request.future.set_exception(lost or error)
