"""A worker process in its slot: started again when it dies, replaced when it hangs or grows, its jobs put back."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
from sqlalchemy.exc import SQLAlchemyError

from configs.settings import Settings
from db.black_box import BROKEN, Activity, Reading, box_path, read_box
from db.errors import LedgerError
from db.ledger import Ledger
from db.models import WorkerState
from db.rescue import Rescued, rescue_worker
from producer.child import PYTHON, last_lines, start_child
from producer.errors import QueueUnreachable
from producer.queue import Queue
from producer.slots import Slot

PROGRAM = (*PYTHON, "-m", "worker")
#: Seconds between a death and the next start, by the number of deaths in a row without a job coming to its end.
PAUSES = (1.0, 2.0, 5.0, 15.0, 60.0)
#: So many in a row end the slot, if they lie within this many seconds; and so many before the worker takes any job.
DEATHS, DEATHS_WITHIN, STILLBIRTHS = 5, 300.0, 3
#: Exit code of a worker whose settings are wrong.
MISCONFIGURED = 2
#: Seconds between two looks at its memory.
WEIGHINGS = 2.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """What all workers of a fleet have in common."""

    settings: Settings
    ledger: Ledger
    queue: Queue
    #: What else they are called with.
    options: Sequence[str] = ()
    #: Where their output goes; else where ours goes.
    log: Path | None = None
    #: What their names begin with, and end with after the @.
    prefix: str = ""
    host: str = field(default_factory=socket.gethostname)


class WorkerProcess:
    """``python -m worker`` in a slot: one after the other, each with a name of its own."""

    def __init__(self, site: Site, slot: Slot) -> None:
        self.site, self.slot = site, slot
        self.name = ""
        #: Why there will be no other.
        self.farewell: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._box: Reading | None = None
        self._started = self._weighed = self._next_start = 0.0
        self._deaths: list[float] = []
        self._poisoned = 0
        self._retiring = False

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Look after it; to be called several times a second."""
        if self._process is None:
            if self.farewell is None and time.monotonic() >= self._next_start:
                self.start()
        elif self.is_alive:
            self._watch()
        else:
            self._replace()

    def start(self) -> None:
        """Start the next one."""
        self.name = f"{self.site.prefix}{self.slot.name}-{secrets.token_hex(3)}@{self.site.host}"
        environ = {**os.environ, **self.slot.environ, "PROMPTMILL_BROKER_URL": self.site.queue.url}
        argv = [*PROGRAM, "--name", self.name, *self.site.options]
        if self.site.log:
            self.site.log.parent.mkdir(parents=True, exist_ok=True)
        with self.site.log.open("ab") if self.site.log else nullcontext() as log:
            self._process = start_child(argv, log=log, env=environ)
        self._box, self._started, self._retiring = None, time.monotonic(), False
        self._introduce()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self._process and self.is_alive:
            self._process.send_signal(number)

    def bury(self) -> Rescued:
        """Put back the jobs of one that has ended, and send them."""
        if self._process is None:
            return Rescued([], 0)
        path = box_path(self.site.settings.home, self.name)
        self._box = read_box(path) or self._box
        rescued = rescue_worker(self.site.ledger, self.name, self._box, self.site.settings.max_attempts)
        if self._process.returncode:
            self.site.ledger.bury_worker(self.name)
        else:
            self.site.ledger.forget_worker(self.name)
        self._process = None
        path.unlink(missing_ok=True)
        try:
            self.site.queue.send_rescued(rescued.again)
        except QueueUnreachable as error:
            self._say(f"{len(rescued.again)} jobs are queued, and sent when the queue answers: {error}")
        return rescued

    def _introduce(self) -> None:
        assert self._process
        facts = {"host": self.site.host, "pid": self._process.pid, "device": self.slot.device}
        with suppress(LedgerError):
            self.site.ledger.report_worker(self.name, state=WorkerState.STARTING.value, **facts)

    def _replace(self) -> None:
        assert self._process
        code = self._process.returncode
        try:
            rescued = self.bury()
        except (LedgerError, SQLAlchemyError) as error:
            # The next check tries again: nothing may be started in this slot before.
            return self._say(f"Its jobs cannot be put back yet: {error}")
        self._next_start = time.monotonic()
        if code:
            self._count_death(code, rescued)

    def _count_death(self, code: int, rescued: Rescued) -> None:
        """A later start after each death, and none after too many that brought nothing."""
        made, now = self._box.ended if self._box else 0, time.monotonic()
        self._poisoned = rescued.ended if made else self._poisoned + rescued.ended
        # A job that kills its worker is failed after some attempts: then the worker is to go on with the others.
        if made or rescued.ended:
            self._deaths.clear()
        self._deaths.append(now)
        self._next_start = now + PAUSES[min(len(self._deaths), len(PAUSES)) - 1]
        if reason := self._reason_to_stop(code, now):
            self.farewell = f"{reason} `promptmill doctor` looks for the reason.{self._last_words()}"
            self._say(self.farewell)
        else:
            self._say(f"It ended {_how(code)}; the next one starts in {self._next_start - now:.0f} s.")

    def _reason_to_stop(self, code: int, now: float) -> str | None:
        unborn = self._box is None or self._box.activity is Activity.STARTING
        most = STILLBIRTHS if unborn else DEATHS
        if code == BROKEN:
            return "The worker ended since nothing it did succeeded;"
        if code == MISCONFIGURED:
            return "The worker does not start with these settings;"
        if len(self._deaths) >= most and now - self._deaths[-most] < DEATHS_WITHIN:
            return f"The worker ended {most} times in a row, last {_how(code)};"
        if self._poisoned >= self.site.settings.max_failures:
            return f"{self._poisoned} jobs in a row killed the worker, and none succeeded;"
        return None

    def _last_words(self) -> str:
        log = self.site.log
        return f" The end of its log, {log}:\n{last_lines(log)}" if log else ""

    def _watch(self) -> None:
        self._box = read_box(box_path(self.site.settings.home, self.name)) or self._box
        now = time.monotonic()
        if problem := self._hangs(now):
            self._say(f"{problem}: it is killed and replaced.")
            self.send(signal.SIGKILL)
        elif now - self._weighed >= WEIGHINGS and not self._retiring:
            self._weighed = now
            self._weigh()

    def _hangs(self, now: float) -> str | None:
        """What it has not done for too long."""
        settings, box = self.site.settings, self._box
        if box is None or box.activity in (Activity.STARTING, Activity.OPENING):
            limit, since = settings.open_timeout, box.moved_at if box else self._started
        elif box.activity is Activity.RENDERING:
            limit, since = settings.step_timeout, box.moved_at
        else:
            limit, since = settings.step_timeout, box.alive_at or now
        return f"It has shown no sign of life for {limit:g} s" if now - max(since, self._started) > limit else None

    def _weigh(self) -> None:
        """Have one that has grown too large end when what is on the device is done."""
        limit = self.site.settings.max_memory
        if limit is None or self._process is None or not (self._box and self._box.ended):
            return
        with suppress(psutil.Error):
            memory = psutil.Process(self._process.pid).memory_info()
            # Weights in a file that is mapped are shared, and leave by themselves.
            if (size := memory.rss - getattr(memory, "shared", 0)) > limit:
                self._say(f"It takes {size / 2**30:.1f} GiB of memory: it is replaced when what it makes is done.")
                self._retiring = True
                self.send(signal.SIGTERM)

    def _say(self, message: str) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {self.name}: {message}", err=True)


def _how(code: int) -> str:
    return f"with signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
