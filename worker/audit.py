"""Finds jobs that no message speaks of any more, and sends them again.

Redis may be flushed, restarted empty, evict a queue, or lose the one message that a killed worker had just taken. The
ledger still has the jobs as queued. So the ids in the queue's messages are compared with it, by one worker for all, and
what is missing in two looks is sent again, whether or not the queue is busy.
"""

import logging
import math
import time
from array import array
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from db import outbox, queries
from db.ledger import Ledger
from db.messages import waiting_ids

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

Ids = NDArray[np.int64]
"""Ids of jobs in order, each once: a million take 8 MB."""

#: Seconds after which a worker that took a message has started its jobs, if it lives.
GRACE = 10.0
#: Seconds for which one worker's audit keeps the others from theirs.
TERM = 60
#: Messages read before the engine's thread is let go on, and the seconds it gets.
PAGE, PAUSE = 1000, 0.01


class Audit:
    """Compares ledger and queue, time and again."""

    def __init__(self, app: "Celery", ledger: Ledger) -> None:
        self.app, self.ledger = app, ledger
        self._missing: Ids = _ids([])
        self._token = uuid4().hex.encode()

    @property
    def is_suspicious(self) -> bool:
        """Whether the last look missed something that another is to confirm."""
        return bool(self._missing.size)

    def look(self) -> int:
        """Send what is missing again; returns how many jobs that were.

        One look proves nothing: a message may be on its way from Redis to a worker, or from a producer.
        """
        if not self._is_elected():
            return 0
        missing = self._find_missing()
        confirmed = np.intersect1d(missing, self._missing, assume_unique=True)
        self._missing = np.setdiff1d(missing, confirmed, assume_unique=True)
        return self._send(confirmed)

    def _find_missing(self) -> Ids:
        # The queue first: what is started in between is no longer queued.
        known = self._spoken_of()
        # An empty queue has nothing on its way to it that would take long.
        now = time.time() if known.size else math.inf
        queued = array("q")
        for page in queries.waiting_ids(self.ledger.engine, now):
            queued.extend(page)
        return np.setdiff1d(_ids(queued), known, assume_unique=True)

    def _spoken_of(self) -> Ids:
        """Jobs of the messages that wait, and of those taken just now: a dead worker keeps its own for long."""
        known = array("q")
        for number, ids in enumerate(waiting_ids(self.app, taken_since=time.time() - GRACE)):
            known.extend(ids)
            if number % PAGE == PAGE - 1:
                time.sleep(PAUSE)
        return np.unique(_ids(known))

    def _send(self, lost: Ids) -> int:
        chunks = queries.chunks_of(self.ledger.engine, lost.tolist())
        by_priority = groupby(chunks, key=itemgetter(0))
        return sum(outbox.send(self.app, map(itemgetter(1), group), priority=number) for number, group in by_priority)

    def _is_elected(self) -> bool:
        """Whether it is this worker's turn: only one needs to look. Redis may forget it; then two look."""
        with self.app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            key = f"{channel.global_keyprefix}audit"
            if channel.client.execute_command("SETNX", key, self._token) or channel.client.get(key) == self._token:
                return bool(channel.client.expire(key, TERM))
            # One that nobody may take away is of a worker that died between two commands.
            if channel.client.ttl(key) < 0:
                channel.client.expire(key, TERM)
            return False


def _ids(numbers: "array[int] | list[int]") -> Ids:
    return np.array(numbers, dtype=np.int64)
