"""Following a batch to its end: on the queue that runs, else on one of our own with a worker."""

import time
from collections.abc import Callable
from typing import Any

import click
from sqlalchemy import Row

from configs.settings import Settings
from db.ledger import Ledger
from producer.errors import QueueInUse, QueueUnreachable
from producer.interrupts import Interrupts
from producer.local import LocalRendering
from producer.progress import POLL, Counts, follow, open_display
from producer.queue import Queue, find_url

#: Seconds another process has to publish its queue, or to let go of it.
PATIENCE = 30.0


def pursue(settings: Settings, ledger: Ledger, batch: Row[Any], at_look: Callable[[], object]) -> Counts:
    """Send the batch and show how far it is until it is done or interrupted; ``at_look`` is called at every look.

    Where another process runs the embedded queue, its worker makes the images too, and when it leaves we go on.

    Raises:
        As `LocalRendering` does.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            counts = _try(settings, ledger, batch, at_look)
        except (QueueInUse, QueueUnreachable):
            if settings.broker_url or time.monotonic() > deadline:
                raise
            counts = None
        if counts is not None:
            return counts
        time.sleep(POLL)


def _try(settings: Settings, ledger: Ledger, batch: Row[Any], at_look: Callable[[], object]) -> Counts | None:
    """None when the queue went away meanwhile."""
    if url := find_url(settings):
        return _Wait(settings, ledger, batch, url).look_on(at_look)
    with LocalRendering(settings, ledger, log=settings.home / "logs" / "worker.log") as rendering:
        return rendering.make(batch, at_look)


class _Wait:
    """Waiting for workers that are not ours."""

    def __init__(self, settings: Settings, ledger: Ledger, batch: Row[Any], url: str) -> None:
        self._settings, self._ledger, self._batch, self._url = settings, ledger, batch, url

    def look_on(self, at_look: Callable[[], object]) -> Counts | None:
        """The counts when the batch is done, or when what was being made at an interrupt is; None without a queue."""
        Queue(self._url).send_batch(self._ledger, self._batch.id)
        with Interrupts() as interrupts, open_display(self._batch.total) as display:
            for counts in follow(self._ledger.engine, self._batch.id):
                display.show(counts)
                at_look()
                if interrupts and self._stops(counts, interrupts):
                    return counts
                if find_url(self._settings) != self._url:
                    return None
        return counts

    def _stops(self, counts: Counts, interrupts: Interrupts) -> bool:
        if not counts.paused:
            self._ledger.pause_batch(self._batch.id)
            click.echo("Stopping when what is being made is done. Ctrl-C again stops at once.", err=True)
            return False
        return interrupts.count > 1 or not counts.running
