"""Puts back the jobs of workers that died, whoever they were."""

import logging
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from db import outbox
from db.black_box import box_folder
from db.errors import LedgerError
from db.ledger import Ledger
from db.rescue import rescue_abandoned, rescue_stalled
from worker.audit import Audit

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

#: Seconds between two looks for stalled jobs, and between two audits at least.
INTERVAL, AUDITS = 1.0, 5.0
#: Audits that find nothing may take this part of the time.
SHARE = 0.1
#: Part of a lease that passes between two renewals, about, and part in which every living worker has renewed its own.
RENEWAL, RENEWED = 1 / 4, 1 / 2


class Rescuer:
    """Looks for stalled jobs and lost messages while the block is open; one worker does it for all."""

    def __init__(self, app: "Celery", ledger: Ledger, *, home: Path, max_attempts: int, lease_seconds: float) -> None:
        self.app, self.ledger, self.home, self.max_attempts = app, ledger, home, max_attempts
        self._lease = lease_seconds
        self._written, self._trusts_from = time.time(), 0.0
        self._audit = Audit(app, ledger)
        self._next_audit = time.monotonic() + AUDITS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_until_stopped, name="rescue", daemon=True)

    def __enter__(self) -> "Rescuer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Not joined: it may be waiting for a queue that does not answer.
        self._stop.set()

    def look(self) -> None:
        """Put back the jobs whose worker is dead or silent.

        Each goes in a message of its own: a job that kills its worker takes no other with it.
        """
        stalled = set(rescue_abandoned(self.ledger, box_folder(self.home), self.max_attempts))
        if self._trusts_leases():
            stalled.update(rescue_stalled(self.ledger, self.home, self.max_attempts))
        if stalled:
            log.warning("Put back %d jobs whose worker is dead or had fallen silent.", len(stalled))
            outbox.send(self.app, ([job_id] for job_id in sorted(stalled)), priority=outbox.RESCUE_PRIORITY)

    def audit(self) -> None:
        """Send again what the queue has lost. The longer a look takes, the later the next, but for a second one."""
        started = time.monotonic()
        if lost := self._audit.look():
            log.warning("Sent %d queued jobs again that the queue had lost.", lost)
        pause = 0.0 if self._audit.is_suspicious else (time.monotonic() - started) / SHARE
        self._next_audit = time.monotonic() + max(AUDITS, pause)

    def _trusts_leases(self) -> bool:
        """Whether a lease that has expired tells of a worker that is silent.

        A ledger that was locked, a host that slept and a clock that was stepped forward end the leases of living
        workers as well: these first get the time to renew them.
        """
        with self.ledger.engine.begin():
            pass  # Waits, as a renewal does, while SQLite is locked.
        before, self._written = self._written, time.time()
        if not 0 <= self._written - before <= max(2 * INTERVAL, self._lease * RENEWAL):
            self._trusts_from = time.monotonic() + self._lease * RENEWED
        return time.monotonic() >= self._trusts_from

    def _look_until_stopped(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                self.look()
                if time.monotonic() >= self._next_audit:
                    self.audit()
            except (LedgerError, SQLAlchemyError, OperationalError, RedisError, OSError) as error:
                log.warning("Looking for stalled jobs failed: %s Trying again.", error)
