"""A worker process of ours: started again when it dies, its jobs put back at once."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

from configs.settings import Settings
from db import queries
from db.ledger import Ledger
from producer.child import PYTHON, last_lines, start_child
from producer.errors import WorkerKeepsDying
from producer.interrupts import Interrupts
from producer.queue import Queue

#: It is given up after this many deaths in a row without a job coming to its end,
DEATHS = 3
#: if they lie within this many seconds.
DEATHS_WITHIN = 60.0
#: The exit code of one that was told what it cannot do: it would say so again.
REFUSED = 2
#: Seconds between a death and the next start, at most.
LONGEST_PAUSE = 60.0
#: The interrupt that kills instead of asking.
KILLING_INTERRUPT = 3


class WorkerProcess:
    """``python -m worker`` on the queue, while the block is open. Its output goes to ``log``, or where ours goes."""

    def __init__(
        self, settings: Settings, ledger: Ledger, queue: Queue, *, options: Sequence[str] = (), log: Path | None
    ) -> None:
        self.settings, self.ledger, self.queue, self.log = settings, ledger, queue, log
        self.name = f"local-{os.getpid()}@{socket.gethostname()}"
        self._argv = [*PYTHON, "-m", "worker", "--name", self.name, *options]
        self._deaths: list[float] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "WorkerProcess":
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.ledger.rescue_jobs(self.settings.max_attempts, worker=self.name)

    def check(self) -> None:
        """Start it again if it has died, a little later each time.

        Raises:
            WorkerKeepsDying: it died again and again with no job ended, or its settings do not let it start.
        """
        if self._process and self._process.poll() is not None:
            code, self._process = self._process.returncode, None
            self.queue.send_rescued(self.ledger.rescue_jobs(self.settings.max_attempts, worker=self.name))
            self._count_death(code)
        elif not self._process and time.time() >= self._deaths[-1] + min(LONGEST_PAUSE, 2.0 ** (len(self._deaths) - 1)):
            self._start()

    def stop(self, interrupts: Interrupts) -> None:
        """Let it finish what it is making, and wait; each further interrupt is passed on, and the third kills it."""
        passed = 0
        while self._process and self._process.poll() is None:
            if passed < max(1, interrupts.count):
                passed += 1
                self._process.send_signal(signal.SIGKILL if passed >= KILLING_INTERRUPT else signal.SIGTERM)
            time.sleep(0.05)

    def _start(self) -> None:
        env = {**os.environ, "PROMPTMILL_BROKER_URL": self.queue.url}
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") if self.log else nullcontext() as log:
            self._process = start_child(self._argv, log=log, env=env)

    def _count_death(self, code: int) -> None:
        if code == REFUSED:
            raise WorkerKeepsDying(self._farewell("The worker does not start with these settings"))
        now = time.time()
        # A job that kills its worker is failed after some attempts: then the worker is to go on with the others.
        if self._deaths and queries.has_ended_since(self.ledger.engine, self.name, self._deaths[-1]):
            self._deaths.clear()
        self._deaths.append(now)
        if len(self._deaths) >= DEATHS and now - self._deaths[-DEATHS] < DEATHS_WITHIN:
            how = f"with signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise WorkerKeepsDying(self._farewell(f"The worker ended {DEATHS} times in a row, last {how}"))

    def _farewell(self, what: str) -> str:
        said = f" The end of its log, {self.log}:\n{last_lines(self.log)}" if self.log else ""
        return f"{what}; `promptmill doctor` looks for the reason.{said}"
