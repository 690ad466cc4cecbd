"""A worker's black box: a small file that outlives its process and tells what it was making, and when it last moved.

The worker writes it in place, in mapped memory: no SQL, no system call, no fsync. What a killed process has written
stays with the kernel. It is lost only with the host, so a box counts for nothing after the host has started anew.

Layout, in 64-bit integers: a head of `HEAD` (see `Cell`), then `PLACES` pairs of job id and fence; the id is 0 in a
free one. An integer is written whole or not at all, and a fence before its id.
"""

import fcntl
import mmap
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import IntEnum
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from uuid import UUID

import psutil

from db.claim import Claim

#: What a worker may be called: its box has the name for a file name.
NAME = r"[\w.@-]{1,200}"
#: Exit code of a worker that ended since everything failed: another one would fail too.
BROKEN = 4
SUFFIX = ".box"
HEAD = 16
#: Jobs in the making at once, at most: far more than a worker has.
PLACES = 1024
SIZE = 8 * (HEAD + 2 * PLACES)


class Cell(IntEnum):
    """Where in the head a number stands."""

    BOOT = 0
    PID = 1
    ACTIVITY = 2
    MOVED = 3
    ALIVE = 4
    ENDED = 5


class Activity(IntEnum):
    """What the engine's thread is at."""

    STARTING = 0
    IDLE = 1
    OPENING = 2
    RENDERING = 3


class Reading(NamedTuple):
    """What a box says. Times are of the host's monotonic clock, in seconds."""

    pid: int
    activity: Activity
    #: Last sign of the engine's thread, and of the thread that renews the leases.
    moved_at: float
    alive_at: float
    #: Jobs that came to their end, well or not.
    ended: int
    #: What is on the device, or is being saved.
    claims: frozenset[Claim]


class BlackBox:
    """The box of this process, for writing. Its methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under its name only when it is locked: one that is not is of a dead worker.
        fresh = path.with_suffix(".new")
        # Open, and so locked, for as long as the process lives.
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, SIZE)
        self._cells = memoryview(mmap.mmap(descriptor, SIZE)).cast("q")
        self._places: dict[Claim, int] = {}
        self._free = list(range(HEAD, HEAD + 2 * PLACES, 2))
        self._changed = threading.Condition()
        self.path = path
        self._cells[Cell.BOOT], self._cells[Cell.PID] = boot_number(), os.getpid()
        self.move(Activity.STARTING)
        self.live()
        fresh.replace(path)

    def __enter__(self) -> "BlackBox":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """An orderly end leaves no box."""
        if not error:
            self.path.unlink(missing_ok=True)

    def move(self, activity: Activity) -> None:
        """The engine's thread is at work on something else, or still at it."""
        self._cells[Cell.ACTIVITY] = activity
        self._cells[Cell.MOVED] = time.monotonic_ns()

    def live(self) -> None:
        """The process as such is alive."""
        self._cells[Cell.ALIVE] = time.monotonic_ns()

    @property
    def activity(self) -> Activity:
        return Activity(self._cells[Cell.ACTIVITY])

    @property
    def ended(self) -> int:
        """Jobs that came to their end, well or not."""
        return self._cells[Cell.ENDED]

    def enter(self, claim: Claim) -> None:
        """From now on this job may be why the process dies. Again is as good as once."""
        with self._changed:
            if claim not in self._places and self._free:
                place = self._places[claim] = self._free.pop()
                self._cells[place + 1] = claim.fence
                self._cells[place] = claim.job_id

    def count(self) -> None:
        """A job has come to its end."""
        with self._changed:
            self._cells[Cell.ENDED] += 1

    def leave(self, claim: Claim) -> None:
        """The job is no longer in the making."""
        with self._changed:
            place = self._places.pop(claim, None)
            if place is not None:
                self._cells[place] = 0
                self._free.append(place)
                self._changed.notify_all()

    def await_empty(self, seconds: float) -> bool:
        """Wait until no job is in the making; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._places, seconds)


def box_path(home: Path, worker: str) -> Path:
    return box_folder(home) / f"{worker}{SUFFIX}"


def box_folder(home: Path) -> Path:
    """All workers of a home have their boxes in one folder."""
    return home / "workers"


def read_box(path: Path) -> Reading | None:
    """What a box says; None where there is none that counts."""
    with suppress(OSError, ValueError):
        content = path.read_bytes()
        if len(content) == SIZE and (cells := memoryview(content).cast("q"))[Cell.BOOT] == boot_number():
            return _read(cells)
    return None


def abandoned_boxes(folder: Path) -> Iterator[Path]:
    """The boxes whose workers are dead: a worker holds the lock on its own for as long as it lives."""
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield path


def worker_of(path: Path) -> str:
    """The name of the worker whose box it is."""
    return path.name.removesuffix(SUFFIX)


@cache
def boot_number() -> int:
    """Tells one run of the host from the next; the same in all its containers."""
    with suppress(OSError, ValueError):
        return UUID(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()).int >> 65
    return int(psutil.boot_time())


def _read(cells: memoryview) -> Reading:
    return Reading(
        pid=cells[Cell.PID],
        activity=Activity(cells[Cell.ACTIVITY]),
        moved_at=cells[Cell.MOVED] / 1e9,
        alive_at=cells[Cell.ALIVE] / 1e9,
        ended=cells[Cell.ENDED],
        claims=frozenset(_claims(cells)),
    )


def _claims(cells: memoryview) -> Iterable[Claim]:
    for place in range(HEAD, HEAD + 2 * PLACES, 2):
        if job_id := cells[place]:
            yield Claim(job_id, cells[place + 1])
