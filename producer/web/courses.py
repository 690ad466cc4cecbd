"""How far batches are, for all who ask: counted at most once a second, with the rate since somebody began to ask."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import Engine

from producer.progress import Counts, Rate

#: Seconds for which a count is new enough: of a batch that is in the making, and of one that rests.
FRESH, RESTING = 0.9, 4.0
#: Batches whose rate is remembered.
MOST = 256


@dataclass(frozen=True)
class Course:
    """How far a batch is."""

    counts: Counts
    #: 0 where it is not known yet: it takes two looks.
    images_per_second: float
    seconds_left: float | None

    @property
    def standing(self) -> str:
        """In one word, what it is doing."""
        counts = self.counts
        if not counts.left:
            return "done"
        if counts.paused:
            return "paused"
        if counts.is_held:
            return "held"
        return "making" if counts.running else "waiting"


class Courses:
    """The courses of a ledger's batches, as of late."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._seen: OrderedDict[int, tuple[float, Course]] = OrderedDict()
        self._rates: dict[int, Rate] = {}

    def of(self, batch_id: int) -> Course:
        with self._lock:
            now = time.monotonic()
            if known := self._seen.get(batch_id):
                made_at, course = known
                if now - made_at < (FRESH if course.counts.running else RESTING):
                    return course
            return self._look(batch_id, now)

    def forget(self, batch_id: int) -> None:
        """Something was done about it: count anew."""
        with self._lock:
            self._seen.pop(batch_id, None)

    def _look(self, batch_id: int, now: float) -> Course:
        counts, rate = Counts.read(self._engine, batch_id), self._rates.setdefault(batch_id, Rate())
        rate.add(now, counts)
        course = Course(counts, rate.per_second(), rate.seconds_for(counts.left) if counts.left else None)
        self._seen[batch_id] = now, course
        self._seen.move_to_end(batch_id)
        while len(self._seen) > MOST:
            self._rates.pop(self._seen.popitem(last=False)[0], None)
        return course
