"""Writes that are tried again while the database is locked, or gone."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

from db.errors import LedgerUnreachable
from db.faults import passes

T = TypeVar("T")

#: Seconds for which a write is tried again.
PATIENCE = 60.0


def patiently(write: Callable[[], T]) -> T:
    """Run a whole transaction again while the database is locked, or gone: SQLite's own wait is not fair.

    Raises:
        LedgerUnreachable: for longer than `PATIENCE`, or for good.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return write()
        except DBAPIError as error:
            waits = passes(error)
            if not (waits or isinstance(error, OperationalError)):
                raise
            if not waits or time.monotonic() > deadline:
                raise LedgerUnreachable(f"The ledger cannot be written: {error.orig}.") from error
            time.sleep(random.uniform(0.05, 0.5))
