"""One worker process: its parts, its Celery application, and how it stops."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from celery import signals
from celery.exceptions import SecurityWarning
from celery.platforms import EX_FAILURE
from celery.worker import state

from configs.celeryconfig import TASK, create_app
from configs.settings import Settings
from db import outbox
from db.black_box import BROKEN, Activity, BlackBox
from db.glimpses import INTERACTIVE
from db.ledger import Ledger
from worker.backlog import Backlog
from worker.breaker import Breaker
from worker.glimpses import Glimpses
from worker.intake import Intake, intake_step
from worker.leases import Leases
from worker.pulse import ACTIVITIES, Pulse
from worker.rescue import Rescuer
from worker.sample import Shape
from worker.tasks import ChunkRunner

if TYPE_CHECKING:
    from celery import Celery

    from worker.engine import Engine

log = logging.getLogger(__name__)

#: Chunks in work at once, at most. The engine seldom needs more than three, and many when few samples are of one size.
CONCURRENCY = 16
#: Seconds in which what has left the device is surely saved, if it ever is.
SAVING = 60.0


class OpenEngine(Protocol):
    """Starts an engine; `worker.renderers` has the one that renders."""

    def __call__(
        self,
        settings: Settings,
        *,
        backlog: Callable[[Shape], int],
        on_hungry: Callable[[], object],
        on_lost: Callable[[], object],
        settle: Callable[[], object],
    ) -> "Engine": ...


class Worker:
    """A worker process: `run` takes chunks until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        box: BlackBox,
        open_engine: OpenEngine,
        *,
        name: str,
        broker_url: str,
    ) -> None:
        """Raises what ``open_engine`` does."""
        self.app: Celery = create_app(broker_url)
        self.ledger = ledger
        self.intake = Intake(lambda: self.engine.is_hungry)
        self.backlog = Backlog(ledger.engine)
        self.engine = open_engine(
            settings, backlog=self.backlog.work, on_lost=self._stop_without_device, on_hungry=self.intake.wake,
            settle=lambda: box.await_empty(SAVING),
        )  # fmt: skip
        self.engine.progress.on_stage = lambda stage: box.move(ACTIVITIES.get(stage, Activity.RENDERING))
        self.leases = Leases(ledger, settings.lease_seconds)
        self.rescuer = Rescuer(
            self.app, ledger,
            home=settings.home, max_attempts=settings.max_attempts, lease_seconds=settings.lease_seconds,
        )  # fmt: skip
        self.runner = ChunkRunner(
            settings=settings, name=name, ledger=ledger, leases=self.leases, engine=self.engine, send=self._send,
            box=box, breaker=Breaker(settings.max_failures, self._stop_broken),
        )  # fmt: skip
        self.pulse = Pulse(self.runner)
        self.glimpses = Glimpses(self.app, partial(self.runner.in_flight, INTERACTIVE))
        self.app.task(name=TASK)(self._render_chunk)

    def run(self, concurrency: int = CONCURRENCY) -> int:
        """Take chunks until SIGTERM or SIGINT; returns the exit code."""
        self.runner.settings.images_root.mkdir(parents=True, exist_ok=True)
        signals.worker_ready.connect(self._take_signals, weak=False)
        signals.task_received.connect(self.intake.expect, weak=False)
        self.app.steps["consumer"].add(intake_step(self.intake))
        # Celery warns root of pickles in messages; ours are JSON, and nothing else is accepted.
        warnings.simplefilter("ignore", SecurityWarning)
        celery_worker = self.app.Worker(
            pool="threads",
            concurrency=concurrency,
            hostname=self.runner.name,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel=logging.INFO,
            quiet=True,
        )
        with self.leases, self.pulse, self.rescuer, self.glimpses:
            celery_worker.start()
        log.info("%s", self.engine.progress)
        return int(celery_worker.exitcode or 0)

    def _render_chunk(self, ids: Sequence[int]) -> None:
        with ExitStack() as coming:
            coming.callback(self.intake.arrive)
            self.backlog.look()
            self.runner.render_chunk(ids, on_submitted=coming.close)

    def _take_signals(self, **_: object) -> None:
        # Celery's own handlers would finish every chunk taken, and lose one on the second signal.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        log.info("%s is ready.", self.runner.name)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.runner.stopping.is_set():
            threading.Thread(target=self._leave, name="leave").start()
            return
        log.info("Stopping: finishing what is on the device. A second signal stops at once.")
        self._drain(0)

    def _drain(self, code: int) -> None:
        self.runner.stopping.set()
        # The engine's end is waited for elsewhere: a signal handler must not block the thread it interrupts.
        threading.Thread(target=self.engine.close, kwargs={"finish": True}, name="drain").start()
        state.should_stop = code

    def _stop_broken(self, _message: str) -> None:
        self._drain(BROKEN)

    def _stop_without_device(self) -> None:
        log.info("Stopping with exit code %d; what is not done goes back to the queue.", EX_FAILURE)
        self.runner.stopping.set()
        state.should_stop = EX_FAILURE

    def _leave(self) -> None:
        log.info("Stopping at once.")
        if released := self.ledger.release_jobs(self.leases.held()):
            self._send(released)
        os._exit(0)

    def _send(self, ids: Sequence[int]) -> None:
        """Send jobs that were given back, in one message; those that cannot be sent wait for `promptmill resume`."""
        try:
            outbox.send(self.app, [list(ids)], priority=outbox.RESCUE_PRIORITY)
        except self.app.connection_for_write().connection_errors as error:
            log.warning("%d jobs are queued but could not be sent: %s.", len(ids), error)
