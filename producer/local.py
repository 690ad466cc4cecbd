"""Rendering on this machine: the queue where none is configured, a worker process, and their orderly end."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from sqlalchemy import Row

from configs.settings import Settings
from db import queries
from db.ledger import Ledger
from producer.embedded import EmbeddedQueue
from producer.interrupts import Interrupts
from producer.progress import POLL, Counts, follow, open_display
from producer.queue import Queue
from producer.worker_process import WorkerProcess


class LocalRendering:
    """A queue and a worker process, while the block is open. The worker's output goes to ``log``, or where ours goes.

    Raises:
        QueueInUse, ServerMissing, QueueNotStarted: see `producer.embedded`.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, *, log: Path | None = None, options: Sequence[str] = ()
    ) -> None:
        self.settings, self.ledger = settings, ledger
        self._log, self._options = log, options
        self._embedded: EmbeddedQueue | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "LocalRendering":
        with ExitStack() as stack:
            if self.settings.broker_url is None:
                self._embedded = stack.enter_context(EmbeddedQueue(self.settings.home))
            self.queue = Queue(self._embedded.url if self._embedded else str(self.settings.broker_url))
            worker = WorkerProcess(self.settings, self.ledger, self.queue, log=self._log, options=self._options)
            self._worker = stack.enter_context(worker)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def make(self, batch: Row[Any], at_look: Callable[[], object] | None = None) -> Counts:
        """Send the batch and show how far it is until it is done; ``at_look`` is called at every look.

        The first interrupt pauses the batch and lets the worker finish what is on the device, the second gives that
        back too. Returns the counts at the end; with some left, it was interrupted.

        Raises:
            QueueUnreachable: the batch is recorded and was not sent.
            WorkerKeepsDying: the worker cannot work.
        """
        with Interrupts() as interrupts:
            self.queue.send_batch(self.ledger, batch.id)
            self._follow(batch, interrupts, at_look)
            if interrupts:
                self.ledger.pause_batch(batch.id)
                click.echo("Stopping when what is being made is done. Ctrl-C again stops at once.", err=True)
            self._worker.stop(interrupts)
        return Counts.read(self.ledger.engine, batch.id)

    def serve(self) -> None:
        """Send all queued jobs of open batches, and take work until interrupted. Raises as `make` does."""
        with Interrupts() as interrupts:
            for batch in queries.waiting_batches(self.ledger.engine):
                self.queue.send_batch(self.ledger, batch.id)
            while not interrupts:
                self._tend()
                time.sleep(POLL)
            self._worker.stop(interrupts)

    def _follow(self, batch: Row[Any], interrupts: Interrupts, at_look: Callable[[], object] | None) -> None:
        with open_display(batch.total) as display:
            for counts in follow(self.ledger.engine, batch.id):
                display.show(counts)
                if at_look:
                    at_look()
                if interrupts:
                    return
                self._tend()

    def _tend(self) -> None:
        """See that queue and worker live."""
        if self._embedded:
            self._embedded.check()
        self._worker.check()
