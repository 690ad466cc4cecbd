"""The batcher decides which samples share the next step. It knows shapes, rows and urgency, and no tensor.

A sample is *due* when it arrives, and `AGEING` seconds later for each level of its priority (0 is the most urgent).
Who is due first goes first: an urgent sample passes those before it, and one that waits becomes as urgent as any
newcomer in the end.

A sample may pass others that are due before it only where that saves work, and never when it is due more than `delay`
seconds after the first of them: this is the *horizon*. Three things are worth it:

- The open checkpoint is kept while a sample within the horizon wants it. Then no more are admitted, those that run
  finish, and the checkpoint of the sample that is due first comes next.
- A bucket that fills its rows goes before one that does not.
- A row that the next sample is too wide for goes to the first one that fits.

A sample that is to run alone passes nobody. When it is due before all that wait, no more are admitted, what runs
finishes, and nobody is admitted beside it.
"""

import math
import time
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Generic, Protocol, TypeVar

from worker.sample import Form, Shape

#: Seconds by which one level of priority makes a sample less urgent.
AGEING = 600.0
#: Seconds by which a sample may pass another to save work: many times what opening a checkpoint takes.
DELAY = 300.0


class Sharing(Protocol):
    """What the batcher must know of a sample; compared by identity."""

    @property
    def shape(self) -> Shape:
        """Only samples of one shape can share a call."""

    @property
    def rows(self) -> int:
        """Rows it takes in the call."""

    @property
    def priority(self) -> int:
        """0 first, 9 last."""

    @property
    def alone(self) -> bool:
        """Whether nothing else may run while it does."""


Item = TypeVar("Item", bound=Sharing)


@dataclass(order=True, slots=True)
class Place(Generic[Item]):
    """A sample's place in the order of all: who is due first, and of these who came first."""

    due: float
    number: int
    item: Item = field(compare=False)


class Bucket(Generic[Item]):
    """The samples of one shape: those waiting, in their order, and those running, in the order of admission."""

    def __init__(self, shape: Shape, limit: int) -> None:
        self.shape = shape
        self.limit = limit
        """The most rows of a call."""
        self.waiting: list[Place[Item]] = []
        self.running: list[Place[Item]] = []

    @property
    def first(self) -> Place[Item]:
        """Its sample that is due first."""
        return min((*self.running, *self.waiting[:1]))

    def is_ready(self, horizon: float) -> bool:
        """Whether it has a sample to step."""
        return bool(self.running) or self.waiting[0].due <= horizon

    def fills(self, horizon: float) -> bool:
        """Whether its samples would fill a call."""
        ready = (*self.running, *islice(self._within(horizon), self.limit))
        return sum(place.item.rows for place in ready) >= self.limit

    def share(self, horizon: Callable[[], float]) -> list[Item]:
        """The samples of its next call, admitting as many as fit. One always does.

        The horizon is asked for each of them: it moves when the sample is admitted that was due first.
        """
        shared: list[Place[Item]] = []
        free = self.limit
        for running in self.running:
            if running.item.rows <= free or not shared:
                shared.append(running)
                free -= running.item.rows
        # When the limit has shrunk some pause, and nobody is admitted before them.
        while len(shared) == len(self.running) and (place := self._fitting(free if shared else math.inf, horizon())):
            self.waiting.remove(place)
            self.running.append(place)
            shared.append(place)
            free -= place.item.rows
        return [place.item for place in shared]

    def _fitting(self, free: float, horizon: float) -> "Place[Item] | None":
        return next((place for place in self._within(horizon) if place.item.rows <= free), None) if free > 0 else None

    def _within(self, horizon: float) -> Iterator[Place[Item]]:
        for place in self.waiting:
            if place.due > horizon:
                return
            yield place


class Batcher(Generic[Item]):
    """Buckets by shape, and whose turn it is.

    max_rows: the rows of a call, where `set_limit` has set nothing else for the shape. clock: gives seconds.
    """

    def __init__(self, max_rows: int, *, delay: float = DELAY, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_rows = max_rows
        self.delay = delay
        self.form: Form | None = None
        """The checkpoint of the last call."""
        self._clock = clock
        self._limits: dict[Shape, int] = {}
        self._buckets: dict[Shape, Bucket[Item]] = {}
        self._loners: list[Place[Item]] = []
        """Those that wait to run alone, in their order."""
        self._alone: list[Item] = []
        """The one that does."""
        self._arrivals = count()

    def __bool__(self) -> bool:
        return bool(self._buckets or self._loners or self._alone)

    def add(self, item: Item) -> None:
        """Queue a sample."""
        place = Place(self._clock() + item.priority * AGEING, next(self._arrivals), item)
        if item.alone:
            return insort(self._loners, place)
        if item.shape not in self._buckets:
            self._buckets[item.shape] = Bucket(item.shape, self.limit(item.shape))
        insort(self._buckets[item.shape].waiting, place)

    def share(self) -> list[Item]:
        """The samples of the next step; those returned for the first time have just been admitted.

        All are of one shape. It is of another checkpoint than `form` only when nothing of that one is running.
        """
        if self._alone or self._is_loner_next():
            return self._share_alone()
        if not self._buckets:
            return []
        horizon = self._horizon()
        if not any(bucket.is_ready(horizon) for bucket in self._open()):
            self.form = min(self._buckets.values(), key=lambda bucket: bucket.first).shape.form
        return self._turn(horizon).share(self._horizon)

    def remove(self, item: Item) -> None:
        """Forget a running sample: it is finished or failed."""
        if item in self._alone:
            return self._alone.clear()
        bucket = self._buckets[item.shape]
        bucket.running = [place for place in bucket.running if place.item is not item]
        self._forget_empty()

    def withdraw(self, unwanted: Callable[[Item], bool] = lambda _: True) -> list[Item]:
        """Take back the samples that still wait: all, or those that `unwanted` says."""
        withdrawn = [place.item for place in self._loners if unwanted(place.item)]
        self._loners = [place for place in self._loners if not unwanted(place.item)]
        for bucket in self._buckets.values():
            withdrawn += [place.item for place in bucket.waiting if unwanted(place.item)]
            bucket.waiting = [place for place in bucket.waiting if not unwanted(place.item)]
        self._forget_empty()
        return withdrawn

    def running(self, shape: Shape | None = None) -> list[Item]:
        """The samples admitted and not removed: all of them, or those of one shape."""
        buckets = self._buckets.values() if shape is None else filter(None, [self._buckets.get(shape)])
        alone = [item for item in self._alone if shape in (None, item.shape)]
        return [*alone, *(place.item for bucket in buckets for place in bucket.running)]

    def waiting(self, shape: Shape) -> list[Item]:
        """The samples of that shape that wait."""
        bucket = self._buckets.get(shape)
        return [place.item for place in bucket.waiting] if bucket else []

    def waiting_rows(self, shape: Shape) -> int:
        """Rows of the samples of that shape that wait."""
        return sum(item.rows for item in self.waiting(shape))

    def is_hungry(self) -> bool:
        """Whether more samples would help: those that wait for the open checkpoint fill no other call."""
        return not self._loners and not any(self.waiting_rows(bucket.shape) >= bucket.limit for bucket in self._open())

    def limit(self, shape: Shape) -> int:
        """The most rows of a call of that shape."""
        return self._limits.get(shape, self.max_rows)

    def set_limit(self, shape: Shape, rows: int) -> None:
        """From the next call on; samples that run and no longer fit pause."""
        self._limits[shape] = rows
        if shape in self._buckets:
            self._buckets[shape].limit = rows

    def _is_loner_next(self) -> bool:
        waiting = (bucket.waiting[0] for bucket in self._buckets.values() if bucket.waiting)
        return bool(self._loners) and self._loners[0] < min(waiting, default=Place(math.inf, 0, self._loners[0].item))

    def _share_alone(self) -> list[Item]:
        """The one that runs alone; before it whoever still runs, with nobody admitted."""
        if running := [bucket for bucket in self._buckets.values() if bucket.running]:
            return min(running, key=lambda bucket: bucket.running[0]).share(lambda: -math.inf)
        if not self._alone:
            self._alone = [self._loners.pop(0).item]
            self.form = self._alone[0].shape.form
        return self._alone[:]

    def _horizon(self) -> float:
        """Until when a sample must be due to be admitted now."""
        return (
            min((bucket.waiting[0].due for bucket in self._buckets.values() if bucket.waiting), default=0) + self.delay
        )

    def _open(self) -> list[Bucket[Item]]:
        return [bucket for bucket in self._buckets.values() if bucket.shape.form == self.form]

    def _turn(self, horizon: float) -> Bucket[Item]:
        """The bucket of the open checkpoint whose turn it is."""
        ready = [bucket for bucket in self._open() if bucket.is_ready(horizon)]
        latest = min(bucket.first for bucket in ready).due + self.delay
        near = [bucket for bucket in ready if bucket.first.due <= latest]
        return min(near, key=lambda bucket: (not bucket.fills(horizon), bucket.first))

    def _forget_empty(self) -> None:
        self._buckets = {shape: bucket for shape, bucket in self._buckets.items() if bucket.running or bucket.waiting}
