"""The circuit breaker: failures in a row with one cause stop the lane they are in, before all jobs have failed.

A lane is what the cause is about. A checkpoint that cannot be opened, memory that does not suffice, numbers that are
not finite: the jobs of a batch that want one checkpoint. They are held back, and all others go on. An unexpected error
says nothing of its job, so its lane is the worker, which ends. A job that is invalid has itself to blame, and stops no
lane: thousands of them fail in seconds, and each message is of use.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

log = logging.getLogger(__name__)

#: The causes that speak of the jobs of one batch and checkpoint, and of the worker.
OF_THE_CHECKPOINT = {"checkpoint", "memory", "nan"}
OF_THE_WORKER = {"unexpected"}


class Lane(NamedTuple):
    """The jobs of a batch that want one checkpoint, or all that a worker does."""

    batch_id: int = 0
    model: str = ""


WORKER = Lane()


@dataclass
class Breaker:
    """Counts failures in a row; task threads use it at once."""

    limit: int
    #: Told the last message when the worker's lane is broken.
    on_broken: Callable[[str], object] = lambda _: None
    _rows: dict[Lane, tuple[str, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def succeed(self, batch_id: int, model: str) -> None:
        """An image was made: whatever was wrong is not wrong with all."""
        with self._lock:
            for lane in (WORKER, Lane(batch_id, model)):
                self._rows.pop(lane, None)

    def fail(self, batch_id: int, model: str, cause: str, message: str) -> bool:
        """A job failed; whether its lane is broken, now or already."""
        if cause in OF_THE_CHECKPOINT:
            return self._count(Lane(batch_id, model), cause, message)
        return cause in OF_THE_WORKER and self._count(WORKER, cause, message)

    def _count(self, lane: Lane, cause: str, message: str) -> bool:
        with self._lock:
            last, count = self._rows.get(lane, (cause, 0))
            count = count + 1 if last == cause else 1
            self._rows[lane] = cause, count
        if count == self.limit + 1:
            self._tell(lane, cause, message)
        return count > self.limit

    def _tell(self, lane: Lane, cause: str, message: str) -> None:
        first = next(iter(message.strip().splitlines()), cause)
        if lane is WORKER:
            log.critical("This worker ends: %d jobs in a row met an unexpected error, last %s", self.limit + 1, first)
            self.on_broken(first)
            return
        log.error(
            "Batch %d's jobs for %s wait: more than %d in a row failed with the cause %s, last: %s "
            "`promptmill resume %d` tries again.", lane.batch_id, lane.model, self.limit, cause, first, lane.batch_id,
        )  # fmt: skip
