"""Puts back the jobs of workers that died, whoever they were."""

import logging
import threading
from typing import TYPE_CHECKING

from db import outbox
from db.errors import LedgerError
from db.ledger import Ledger

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

#: Rescued jobs go before everything else: somebody has waited for them long enough.
RESCUE_PRIORITY = 0


def rescue(app: "Celery", ledger: Ledger, max_attempts: int, *, worker: str | None = None) -> int:
    """Put back the jobs whose lease expired, or all of the dead ``worker``, and send them one a message.

    Alone in its message, a job that kills its worker takes no other with it. Returns how many were sent.
    """
    ids = ledger.rescue_jobs(max_attempts, worker=worker)
    return outbox.send(app, ([job_id] for job_id in ids), priority=RESCUE_PRIORITY) if ids else 0


class Rescuer(threading.Thread):
    """Looks for expired leases every ``interval`` seconds until `stop`; any worker may do it for all."""

    def __init__(self, app: "Celery", ledger: Ledger, *, max_attempts: int, interval: float) -> None:
        super().__init__(name="rescue", daemon=True)
        self.app, self.ledger = app, ledger
        self.max_attempts, self.interval = max_attempts, interval
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(self.interval):
            try:
                if count := rescue(self.app, self.ledger, self.max_attempts):
                    log.warning("Put back %d jobs whose worker had fallen silent.", count)
            except (LedgerError, self.app.connection_for_write().connection_errors) as error:
                log.warning("Looking for stalled jobs failed: %s Trying again.", error)
