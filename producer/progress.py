"""How far a batch is: done, failed, left, images a second, time to go."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Engine, Row

from db import queries

if TYPE_CHECKING:
    from rich.progress import Progress

#: Seconds between two looks at the ledger.
POLL = 0.5
#: Seconds between two plain lines.
PLAIN_INTERVAL = 10.0
#: Seconds over which the rate is taken.
WINDOW = 60.0


@dataclass(frozen=True)
class Counts:
    """The jobs of a batch by state, at one moment."""

    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    #: Whether no more are started; what runs ends.
    paused: bool = False
    #: Those of the queued that are held back, since too many like them failed.
    held: int = 0

    @classmethod
    def read(cls, engine: Engine, batch_id: int) -> "Counts":
        by_state = {state.value: count for state, count in queries.counts(engine, batch_id).items()}
        held = sum(hold.jobs for hold in queries.holds(engine, batch_id))
        return cls(**by_state, paused=queries.is_paused(engine, batch_id), held=held)

    @property
    def left(self) -> int:
        return self.queued + self.running

    @property
    def is_held(self) -> bool:
        """Whether nothing more will be made until somebody does something about it."""
        return 0 < self.held == self.left

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    @property
    def all_succeeded(self) -> bool:
        return self.left == self.failed == self.cancelled == 0


class Rate:
    """Jobs a second over the last minute, from the moment the first one runs: loading a model is not rendering."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, counts: Counts) -> None:
        if self._seen or counts.running:
            self._seen.append((now, counts.ended))
        while self._seen and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    def per_second(self) -> float:
        """0 while nothing has ended."""
        if len(self._seen) < 2:
            return 0.0
        (start, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - start)

    def seconds_for(self, left: int) -> float | None:
        """Seconds that many jobs take; None when that is unknown."""
        rate = self.per_second()
        return left / rate if rate > 0 else None


def follow(engine: Engine, batch_id: int) -> Iterator[Counts]:
    """The batch's counts, twice a second, until all its jobs have ended."""
    while True:
        counts = Counts.read(engine, batch_id)
        yield counts
        if not counts.left or counts.is_held:
            return
        time.sleep(POLL)


def watch(engine: Engine, batch: Row[Any]) -> Counts:
    """Show how far the batch is until it is done; returns its last counts."""
    with open_display(batch.total) as display:
        for counts in follow(engine, batch.id):
            display.show(counts)
    return counts


class Display(Protocol):
    """Shows counts as they come."""

    def show(self, counts: Counts) -> None: ...


def open_display(total: int) -> "AbstractContextManager[Display]":
    """A bar on a terminal, plain lines elsewhere; both on standard error."""
    return BarDisplay(total) if sys.stderr.isatty() else PlainDisplay()


class PlainDisplay:
    """A line every ten seconds, and one at the end."""

    def __init__(self) -> None:
        self.rate = Rate()
        self._next = 0.0

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def show(self, counts: Counts) -> None:
        now = time.monotonic()
        self.rate.add(now, counts)
        if now >= self._next or not counts.left:
            self._next = now + PLAIN_INTERVAL
            print(time.strftime("%H:%M:%S"), describe(counts, self.rate), file=sys.stderr, flush=True)


class BarDisplay:
    """One line with a bar, drawn anew at every look."""

    def __init__(self, total: int) -> None:
        self.rate = Rate()
        self.progress = _bar()
        self.task = self.progress.add_task("", total=total)

    def __enter__(self) -> "BarDisplay":
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def show(self, counts: Counts) -> None:
        self.rate.add(time.monotonic(), counts)
        self.progress.update(self.task, completed=counts.ended, description=describe(counts, self.rate))


def describe(counts: Counts, rate: Rate) -> str:
    """``12 done, 1 failed, 87 left, 3.2 images/s, 0:27 to go``; and why nothing happens, when nothing does."""
    pace, seconds = rate.per_second(), rate.seconds_for(counts.left)
    parts = [
        "paused" if counts.paused else "waiting for a worker" if counts.queued and not counts.running else "",
        f"{counts.succeeded} done",
        f"{counts.failed} failed",
        f"{counts.cancelled} cancelled" if counts.cancelled else "",
        f"{counts.left} left",
        f"{counts.held} held back" if counts.held else "",
        f"{pace:.2f} images/s" if pace else "",
        f"{clock(seconds)} to go" if counts.left and seconds is not None else "",
    ]
    return ", ".join(filter(None, parts))


def clock(seconds: float) -> str:
    """``1:02:03``, ``2:03``; with days from the second on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False))
    return Progress(*columns, console=Console(stderr=True))
