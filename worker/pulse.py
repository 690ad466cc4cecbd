"""Once a second: a sign of life, and what is no longer wanted is given up; now and then the worker's row."""

import logging
import os
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any

import psutil
from sqlalchemy.exc import SQLAlchemyError

from db import queries
from db.black_box import Activity
from db.errors import LedgerError
from db.models import WorkerState
from worker.progress import Stage
from worker.tasks import ChunkRunner

log = logging.getLogger(__name__)

#: Seconds between two looks at what is wanted, and between two reports.
INTERVAL, REPORTS = 1.0, 3.0
#: Seconds over which the rate is taken.
WINDOW = 60.0
#: What the engine's thread is at, by its stage.
ACTIVITIES: dict[Stage, Activity] = {
    **dict.fromkeys(("text", "unet", "sampler", "vae", "safety", "other"), Activity.RENDERING),
    **dict.fromkeys(("open", "compile"), Activity.OPENING),
    "wait": Activity.IDLE,
}
STATES = {
    Activity.STARTING: WorkerState.STARTING,
    Activity.IDLE: WorkerState.IDLE,
    Activity.OPENING: WorkerState.OPENING,
    Activity.RENDERING: WorkerState.RENDERING,
}


class Pulse:
    """A thread while the block is open; afterwards the worker's row is gone."""

    def __init__(self, runner: ChunkRunner) -> None:
        self._runner = runner
        self._process = psutil.Process()
        self._ended: deque[tuple[float, int]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(LedgerError):
            self._runner.ledger.forget_worker(self._runner.name)

    def look(self) -> None:
        """Give up what is cancelled, or somebody else's by now."""
        held = self._runner.leases.held()
        if unwanted := set(held) - queries.wanted_claims(self._runner.ledger.engine, held):
            self._runner.drop(sorted(unwanted))

    def report(self) -> None:
        """Write the worker's row."""
        self._runner.ledger.report_worker(self._runner.name, **self._facts())

    def _facts(self) -> dict[str, Any]:
        box, form = self._runner.box, self._runner.engine.form
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "state": (WorkerState.DRAINING if self._runner.stopping.is_set() else STATES[box.activity]).value,
            "model": str(form) if form else None,
            "jobs_done": box.ended,
            "rate": self._rate(box.ended),
            "memory": self._process.memory_info().rss,
            "vram": self._runner.engine.vram,
        }

    def _rate(self, ended: int) -> float:
        now = time.monotonic()
        self._ended.append((now, ended))
        while now - self._ended[0][0] > WINDOW:
            self._ended.popleft()
        since, before = self._ended[0]
        return (ended - before) / (now - since) if now > since else 0.0

    def _beat_until_stopped(self) -> None:
        next_report = 0.0
        while not self._stop.wait(INTERVAL):
            self._runner.box.live()
            try:
                self.look()
                if time.monotonic() >= next_report:
                    next_report = time.monotonic() + REPORTS
                    self.report()
            except (LedgerError, SQLAlchemyError) as error:
                log.warning("The ledger does not answer: %s Trying again.", error)
