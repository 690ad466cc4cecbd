"""Puts back the jobs of workers that died, whoever they were."""

import logging
import threading
from typing import TYPE_CHECKING

from db import outbox
from db.errors import LedgerError
from db.ledger import Ledger
from worker.audit import Audit

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)


class Rescuer(threading.Thread):
    """Looks for stalled jobs and lost messages every ``interval`` seconds until `stop`; one worker does it for all."""

    def __init__(self, app: "Celery", ledger: Ledger, *, max_attempts: int, interval: float) -> None:
        super().__init__(name="rescue", daemon=True)
        self.app, self.ledger = app, ledger
        self.max_attempts, self.interval = max_attempts, interval
        self._audit = Audit(app, ledger)
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        unreachable = self.app.connection_for_write().recoverable_connection_errors
        while not self._stopped.wait(self.interval):
            try:
                self.look()
            except (LedgerError, *unreachable) as error:
                log.warning("Looking for stalled jobs failed: %s Trying again.", error)

    def look(self) -> None:
        """Put back the jobs whose lease has expired, and send again what the queue has lost.

        Each goes in a message of its own: a job that kills its worker takes no other with it.
        """
        if stalled := self.ledger.rescue_jobs(self.max_attempts):
            outbox.send(self.app, ([job_id] for job_id in stalled), priority=outbox.RESCUE_PRIORITY)
            log.warning("Put back %d jobs whose worker had fallen silent.", len(stalled))
        if lost := self._audit.look():
            log.warning("Sent %d queued jobs again that the queue had lost.", lost)
