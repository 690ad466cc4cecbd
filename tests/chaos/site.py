"""Where faults are injected: a ledger, a queue, and hosts with fleets of null workers, all in real processes."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil
from sqlalchemy import Row, func, select

from db import queries
from db.migrate import open_ledger
from db.models import IMAGES, JOBS, Image, Job, JobState
from db.reading import read
from tests.chaos.crash_points import FOLDER
from tests.chaos.null_worker import CLOCK, SECONDS
from tests.chaos.server import Server

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
#: Bytes of the disk of the images, where we may mount one.
DISK = 512 * 2**20
#: Seconds the processes have to do what they must.
PATIENCE = 240.0


class Host:
    """A host with a home of its own and `promptmill worker`, which its supervisor starts again whenever it ends."""

    def __init__(self, site: "Site", name: str, workers: int) -> None:
        self.site, self.name, self._count = site, name, workers
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ("worker", "--workers", str(self._count), "--name", f"w@{self.name}")
        self.process = self.site.promptmill(*words, home=self.site.folder / self.name)

    def keep(self) -> None:
        """What systemd does."""
        if self.process is not None and self.process.poll() is not None:
            self.start()

    def workers(self) -> dict[str, psutil.Process]:
        """The worker processes that live, by their names."""
        found: dict[str, psutil.Process] = {}
        assert self.process
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                # One that is dead by now, or not yet the program it will be, has no name.
                with suppress(psutil.NoSuchProcess, ValueError):
                    words = child.cmdline()
                    found[words[words.index("--name") + 1]] = child
        return found

    def kill(self) -> None:
        """The whole host is gone, and its supervisor with it."""
        assert self.process
        parent, workers, self.process = self.process, self.workers(), None
        parent.kill()
        for worker in workers.values():
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        parent.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; its exit code."""
        assert self.process
        process, self.process = self.process, None
        process.terminate()
        return process.wait(PATIENCE)


class Site:
    """Everything, while the block is open."""

    def __init__(
        self,
        folder: Path,
        binary: str,
        *,
        database_url: str | None = None,
        seconds: float = 0.1,
        lease: float = 15.0,
        attempts: int = 3,
        hurried: bool = False,
    ) -> None:
        self.folder = folder
        #: Whether what takes a minute is left out.
        self.hurried = hurried
        self.server = Server(binary, folder / "queue")
        self.images, self.database_url = folder / "images", database_url or f"sqlite:///{folder}/ledger.sqlite3"
        self._seconds, self._lease, self._attempts = seconds, lease, attempts
        self._stack = ExitStack()
        self.hosts: list[Host] = []
        self.log = folder / "log"

    def __enter__(self) -> "Site":
        with ExitStack() as stack:
            (self.folder / "orders").mkdir(parents=True)
            self.images.mkdir()
            stack.enter_context(self.server)
            self.ledger = open_ledger(self.database_url)
            stack.callback(self.ledger.engine.dispose)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _end(self) -> None:
        for host in self.hosts:
            if host.process:
                host.kill()

    @property
    def orders(self) -> Path:
        """Where orders to the processes lie."""
        return self.folder / "orders"

    def mount_disk(self) -> bool:
        """Give the images a disk of their own; whether we may."""
        words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(self.images)]
        if os.getuid() or subprocess.run(words, check=False, capture_output=True).returncode:
            return False
        self._stack.callback(subprocess.run, ["umount", "-l", str(self.images)], check=False)
        return True

    # ---- processes

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTMILL_")}
        ours = {
            "DATABASE_URL": self.database_url, "BROKER_URL": self.server.url, "IMAGES": str(self.images),
            "DEVICE": "cpu", "DISK_WATERMARK_MB": "1", "LEASE_SECONDS": str(self._lease), "STEP_TIMEOUT": "60",
            "MAX_ATTEMPTS": str(self._attempts),
        }  # fmt: skip
        named = {f"PROMPTMILL_{name}": value for name, value in ours.items()}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        paths = {"PYTHONPATH": path, FOLDER: str(self.orders), SECONDS: str(self._seconds), "OMP_NUM_THREADS": "1"}
        return {**kept, **named, **paths}

    def promptmill(self, *words: str, home: Path | None = None, command: str = "command") -> "subprocess.Popen[bytes]":
        """Start the command."""
        environ = {**self.environ, "PROMPTMILL_HOME": str(home or self.folder / "producer")}
        argv = [sys.executable, "-m", f"tests.chaos.{command}", *words]
        with self.log.open("ab") as log:
            return subprocess.Popen(argv, env=environ, stdout=log, stderr=log, cwd=self.folder)

    def call(self, *words: str) -> int:
        """Run the command; its exit code."""
        return self.promptmill(*words).wait(PATIENCE)

    def ask(self, *words: str) -> str:
        """What Python with these words prints."""
        environ = {**self.environ, "PROMPTMILL_HOME": str(self.folder / "producer")}
        argv = [sys.executable, *words]
        with self.log.open("ab") as log:
            return subprocess.run(argv, env=environ, stdout=subprocess.PIPE, stderr=log, check=False, text=True).stdout

    def open_host(self, workers: int) -> Host:
        host = Host(self, f"host{len(self.hosts)}", workers)
        self.hosts.append(host)
        host.start()
        return host

    def keep(self) -> None:
        """Start what has ended and should not have."""
        for host in self.hosts:
            host.keep()

    def step_clock(self, seconds: float) -> None:
        """From now on the workers' wall clocks are wrong."""
        (self.orders / CLOCK).write_text(str(seconds), "utf-8")

    # ---- work

    def write(self, jobs: int, *odd: str) -> Path:
        """A prompt file with so many ordinary rows, and those."""
        path = self.folder / "prompts.csv"
        prompts = [f"castle number {number}" for number in range(jobs)]
        for prompt in odd:
            prompts.insert(random.Random(prompt).randrange(jobs), prompt)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["prompt"], *([prompt] for prompt in prompts)])
        return path

    def submit(self, jobs: int, *odd: str) -> int:
        """Submit a batch by the command; its id."""
        words = ("submit", str(self.write(jobs, *odd)), "--width", "64", "--height", "64")
        assert self.call(*words) == 0, self.last_words()
        return int(self.batches()[0].id)

    def batches(self) -> Sequence[Row[Any]]:
        """The newest first."""
        return queries.batches(self.ledger.engine)

    def total(self, batch_id: int) -> int:
        return int(queries.find_batch(self.ledger.engine, str(batch_id)).total)

    def counts(self, batch_id: int) -> dict[JobState, int]:
        return dict(queries.counts(self.ledger.engine, batch_id))

    def open_jobs(self, batch_id: int) -> int:
        counts = self.counts(batch_id)
        return counts.get(JobState.QUEUED, 0) + counts.get(JobState.RUNNING, 0)

    def done(self, batch_id: int) -> int:
        return self.counts(batch_id).get(JobState.SUCCEEDED, 0)

    def images_of(self, batch_id: int) -> int:
        """Rows of images."""
        images = select(func.count()).select_from(IMAGES.join(JOBS, Job.id == Image.job_id))
        return int(read(self.ledger.engine, images.where(Job.batch_id == batch_id))[0][0])

    def attempts_of(self, batch_id: int) -> int:
        """Starts of its jobs that counted."""
        return int(read(self.ledger.engine, select(func.sum(Job.attempts)).where(Job.batch_id == batch_id))[0][0] or 0)

    # ---- waiting

    def wait(self, what: Callable[[], T], seconds: float = PATIENCE, pause: float = 0.05) -> T:
        """Wait until something is true, keeping the hosts alive."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, f"waited {seconds:g} s in vain\n{self.last_words()}"
            self.keep()
            time.sleep(pause)
        return found

    def until_done(self, batch_id: int, seconds: float = PATIENCE) -> None:
        self.wait(lambda: not self.open_jobs(batch_id), seconds, 0.2)

    def until_next(self, batch_id: int, seconds: float = PATIENCE) -> float:
        """Wait for another image, or the end of all; how long that took."""
        began, done = time.monotonic(), self.done(batch_id)
        self.wait(lambda: self.done(batch_id) > done or not self.open_jobs(batch_id), seconds)
        return time.monotonic() - began

    @contextmanager
    def at_work(self, batch_id: int) -> Iterator[None]:
        """Go in when the batch is in the middle of things."""
        before = self.done(batch_id)
        self.wait(lambda: self.done(batch_id) > before or not self.open_jobs(batch_id))
        yield

    def last_words(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:] if self.log.exists() else ""


def thaw(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGCONT)
