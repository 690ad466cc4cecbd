"""A fleet: one worker process in each slot, looked after together."""

import signal
import time
from collections.abc import Sequence
from types import TracebackType

from db.black_box import box_folder
from db.rescue import rescue_abandoned
from producer.errors import QueueUnreachable, WorkerKeepsDying
from producer.interrupts import Interrupts
from producer.slots import Slot
from producer.worker_process import Site, WorkerProcess

#: The interrupt that kills instead of asking.
KILLING_INTERRUPT = 3


class Fleet:
    """The workers of a machine, while the block is open."""

    def __init__(self, site: Site, slots: Sequence[Slot]) -> None:
        self.site = site
        self.workers = [WorkerProcess(site, slot) for slot in slots]

    def __enter__(self) -> "Fleet":
        self._rescue_forerunners()
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.workers:
            worker.send(signal.SIGKILL)
        self._bury()

    @property
    def farewells(self) -> str:
        """Why slots were given up, a line each; empty while none was."""
        return "\n".join(f"{worker.slot.name}: {worker.farewell}" for worker in self.workers if worker.farewell)

    def check(self) -> None:
        """Look after all of them; to be called several times a second.

        Raises:
            WorkerKeepsDying: no slot is left.
        """
        for worker in self.workers:
            worker.check()
        if all(worker.farewell for worker in self.workers):
            raise WorkerKeepsDying(self.farewells)

    def stop(self, interrupts: Interrupts) -> None:
        """Let them finish what they are making, and wait; each further interrupt is passed on, and the third kills."""
        passed = 0
        while any(worker.is_alive for worker in self.workers):
            if passed < max(1, interrupts.count):
                passed += 1
                for worker in self.workers:
                    worker.send(signal.SIGKILL if passed >= KILLING_INTERRUPT else signal.SIGTERM)
            time.sleep(0.05)
        self._bury()

    def _bury(self) -> None:
        for worker in self.workers:
            while worker.is_alive:
                time.sleep(0.01)
            worker.bury()

    def _rescue_forerunners(self) -> None:
        """Put back what workers have left that were killed together with their fleet."""
        left = rescue_abandoned(self.site.ledger, box_folder(self.site.settings.home), self.site.settings.max_attempts)
        try:
            self.site.queue.send_rescued(left)
        except QueueUnreachable:
            # They are queued; the audit sends them when the queue answers.
            return
