"""The batcher decides which samples share the next step. It knows rows and sizes, and no tensor."""

from collections import deque
from collections.abc import Hashable
from itertools import count
from typing import Generic, Protocol, TypeVar


class Sharing(Protocol):
    """What the batcher must know of a sample; compared by identity."""

    @property
    def size(self) -> Hashable:
        """Only samples of one size can share a call."""

    @property
    def rows(self) -> int:
        """Rows it takes in the call."""


Item = TypeVar("Item", bound=Sharing)


class Bucket(Generic[Item]):
    """The samples of one size: those waiting, and those running, both oldest first."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Item]] = deque()
        self.running: list[tuple[int, Item]] = []

    @property
    def oldest(self) -> int:
        """Arrival number of its oldest sample. Running ones arrived before waiting ones."""
        return (self.running or self.waiting)[0][0]

    def share(self, max_rows: int) -> list[Item]:
        """The oldest samples that fit in `max_rows`, admitting from the queue. One always fits."""
        shared: list[Item] = []
        for _, item in self.running:
            if not _fits(item, shared, max_rows):
                return shared
            shared.append(item)
        while self.waiting and _fits(self.waiting[0][1], shared, max_rows):
            self.running.append(self.waiting.popleft())
            shared.append(self.running[-1][1])
        return shared


def _fits(item: Sharing, shared: "list[Item]", max_rows: int) -> bool:
    return not shared or sum(other.rows for other in shared) + item.rows <= max_rows


class Batcher(Generic[Item]):
    """First in, first out: the oldest sample is in every call, joined by those of its size, up to `max_rows`.

    So nothing starves, and a sample admitted once runs to its end whatever arrives later.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self._buckets: dict[Hashable, Bucket[Item]] = {}
        self._arrivals = count()

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def add(self, item: Item) -> None:
        """Queue a sample."""
        self._buckets.setdefault(item.size, Bucket()).waiting.append((next(self._arrivals), item))

    def share(self) -> list[Item]:
        """The samples of the next step, oldest first; those returned for the first time have just been admitted."""
        if not self._buckets:
            return []
        return min(self._buckets.values(), key=lambda bucket: bucket.oldest).share(self.max_rows)

    def remove(self, item: Item) -> None:
        """Forget a running sample: it is finished or failed."""
        bucket = self._buckets[item.size]
        bucket.running = [entry for entry in bucket.running if entry[1] is not item]
        self._forget_empty()

    def withdraw(self) -> list[Item]:
        """Take back every sample that still waits."""
        waiting = [item for bucket in self._buckets.values() for _, item in bucket.waiting]
        for bucket in self._buckets.values():
            bucket.waiting.clear()
        self._forget_empty()
        return waiting

    def running(self, size: Hashable = None) -> list[Item]:
        """The samples admitted and not removed: all of them, or those of one size."""
        buckets = self._buckets.values() if size is None else filter(None, [self._buckets.get(size)])
        return [item for bucket in buckets for _, item in bucket.running]

    def _forget_empty(self) -> None:
        self._buckets = {size: bucket for size, bucket in self._buckets.items() if bucket.running or bucket.waiting}
