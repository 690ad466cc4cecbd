"""Puts back the jobs of dead and silent workers, and charges only those that may be why.

A worker has started many more jobs than it is making. Its black box tells which were on the device or being saved when
it died: these keep the attempt that was counted, the others get it back. Without a box all keep it.
"""

import time
from pathlib import Path
from typing import NamedTuple

from db import queries
from db.black_box import Reading, abandoned_boxes, box_path, read_box, worker_of
from db.ledger import Ledger


class Rescued(NamedTuple):
    """What became of the jobs of a worker."""

    #: To be sent again.
    again: list[int]
    #: Failed as poison, or cancelled with their batch.
    ended: int


def rescue_worker(ledger: Ledger, worker: str, box: Reading | None, max_attempts: int) -> Rescued:
    """Put back all jobs of a worker that is dead."""
    running = queries.running_claims(ledger.engine, worker)
    innocent = ledger.release_jobs(set(running) - box.claims) if box else []
    suspect = ledger.rescue_jobs(max_attempts, worker=worker) if running else []
    again = sorted({*innocent, *suspect})
    return Rescued(again, len(running) - len(again))


def rescue_abandoned(ledger: Ledger, folder: Path, max_attempts: int) -> list[int]:
    """Put back the jobs of the workers whose boxes lie in ``folder`` and who are dead; returns the ids."""
    again: list[int] = []
    for path in abandoned_boxes(folder):
        again += rescue_worker(ledger, worker_of(path), read_box(path), max_attempts).again
        ledger.bury_worker(worker_of(path))
        path.unlink(missing_ok=True)
    return again


def rescue_stalled(ledger: Ledger, home: Path, max_attempts: int) -> list[int]:
    """Put back the jobs whose lease has expired, wherever their workers were; returns the ids."""
    now = time.time()
    stalled = queries.stalled_claims(ledger.engine, now)
    if not stalled:
        return []
    again: list[int] = []
    for worker, claims in stalled.items():
        if box := read_box(box_path(home, worker)):
            again += ledger.release_jobs(set(claims) - box.claims)
    return sorted({*again, *ledger.rescue_jobs(max_attempts, before=now)})
