"""Keeps the leases of the jobs in flight, and of nothing else."""

import logging
import threading
from collections.abc import Iterable
from types import TracebackType

from db.claim import Claim
from db.errors import LedgerError
from db.ledger import Ledger

log = logging.getLogger(__name__)


class Leases:
    """The claims this worker is working on right now; a thread extends their leases while the block is open.

    Extending "all running jobs of this worker" instead would keep alive for ever a job that an error made us forget.
    """

    def __init__(self, ledger: Ledger, lease_seconds: float) -> None:
        self.ledger = ledger
        self.lease_seconds = lease_seconds
        self._claims: set[Claim] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, name="leases", daemon=True)

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def add(self, claims: Iterable[Claim]) -> None:
        with self._lock:
            self._claims.update(claims)

    def drop(self, claim: Claim) -> None:
        with self._lock:
            self._claims.discard(claim)

    def held(self) -> list[Claim]:
        with self._lock:
            return sorted(self._claims)

    def _renew_until_stopped(self) -> None:
        # A quarter leaves three more tries before a lease runs out.
        while not self._stop.wait(self.lease_seconds / 4):
            try:
                self.ledger.renew_leases(self.held(), self.lease_seconds)
            except LedgerError as error:
                log.warning("Leases were not renewed: %s Trying again.", error)
