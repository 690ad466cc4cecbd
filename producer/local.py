"""Rendering on this machine: the queue where none is configured, a fleet of workers, and their orderly end."""

import os
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
from producer.errors import WorkerKeepsDying
from producer.fleet import Fleet
from producer.interrupts import Interrupts
from producer.notifier import notifying
from producer.progress import Counts, follow, open_display
from producer.queue import Queue
from producer.slots import plan_slots
from producer.worker_process import Site

#: Seconds between two looks at queue and workers.
TENDING = 0.2


class LocalRendering:
    """A queue and a fleet, while the block is open. The workers' output goes to ``log``, or where ours goes.

    name: what the workers' names begin with. gpus, workers: see `plan_slots`. options: what else workers are called
    with.

    Raises:
        NoSuchGpu: see `plan_slots`.
        QueueInUse, ServerMissing, QueueNotStarted: see `producer.embedded`.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        log: Path | None = None,
        name: str | None = None,
        gpus: Sequence[str] = (),
        workers: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.settings, self.ledger = settings, ledger
        self._slots = plan_slots(settings.device, os.environ, gpus, workers)
        self._log, self._name, self._options = log, name, options
        self._embedded: EmbeddedQueue | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "LocalRendering":
        with ExitStack() as stack:
            stack.enter_context(notifying(self.settings, self.ledger))
            if self.settings.broker_url is None:
                self._embedded = stack.enter_context(EmbeddedQueue(self.settings.home))
            self.queue = Queue(self._embedded.url if self._embedded else str(self.settings.broker_url))
            self._fleet = stack.enter_context(Fleet(self._site(), self._slots))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def _site(self) -> Site:
        prefix, _, host = (self._name or "").partition("@")
        named = {**({"prefix": f"{prefix}-"} if prefix else {}), **({"host": host} if host else {})}
        return Site(
            settings=self.settings, ledger=self.ledger, queue=self.queue, log=self._log, options=self._options, **named
        )

    def make(self, batch: Row[Any], at_look: Callable[[], object] | None = None) -> Counts:
        """Send the batch and show how far it is until it is done; ``at_look`` is called at every look.

        The first interrupt pauses the batch and lets the workers finish what is on the devices, the second gives that
        back too. Returns the counts at the end; with some left, it was interrupted, or they are held back.

        Raises:
            QueueUnreachable: the batch is recorded and was not sent.
            WorkerKeepsDying: no worker can work.
        """
        with Interrupts() as interrupts:
            self.queue.send_batch(self.ledger, batch.id)
            self._follow(batch, interrupts, at_look)
            if interrupts:
                self.ledger.pause_batch(batch.id)
                click.echo("Stopping when what is being made is done. Ctrl-C again stops at once.", err=True)
            self._fleet.stop(interrupts)
        return Counts.read(self.ledger.engine, batch.id)

    def serve(self) -> None:
        """Take work until interrupted; an embedded queue, which starts empty, is first sent all that is queued.

        Raises:
            WorkerKeepsDying: some worker could not work, if the others went on until the end.
        """
        with Interrupts() as interrupts:
            if self._embedded:
                for batch in queries.waiting_batches(self.ledger.engine):
                    self.queue.send_batch(self.ledger, batch.id)
            while not interrupts:
                self._tend()
                time.sleep(TENDING)
            self._fleet.stop(interrupts)
        if self._fleet.farewells:
            raise WorkerKeepsDying(self._fleet.farewells)

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
        """See that queue and workers live."""
        if self._embedded:
            self._embedded.check()
        self._fleet.check()
