"""The work that waits in the queue, for the engine, which holds no more than its next calls' worth."""

import threading
import time

from sqlalchemy import Engine

from db.backlog import queued_work
from worker.sample import Shape

#: Seconds for which a look is good.
GOOD_FOR = 60.0


class Backlog:
    """Rows × steps of queued jobs by shape, as of the last look."""

    def __init__(self, ledger: Engine) -> None:
        self._ledger = ledger
        self._work: dict[Shape, int] = {}
        self._looked = -GOOD_FOR
        self._is_asked = False
        self._looking = threading.Lock()

    def look(self) -> None:
        """Ask the ledger, unless that was done a moment ago, or nobody wants to know.

        For the threads of tasks: it may take a while.
        """
        with self._looking:
            if self._is_asked and time.monotonic() - self._looked >= GOOD_FOR:
                self._work = {Shape(*shape): work for shape, work in queued_work(self._ledger).items()}
                self._looked = time.monotonic()

    def work(self, shape: Shape) -> int:
        """This worker's part of it, if all that work now share it evenly. For the engine's thread."""
        self._is_asked = True
        return self._work.get(shape, 0)
