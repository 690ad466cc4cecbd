"""Finds jobs that no message speaks of any more, and sends them again.

Redis may be flushed, restarted empty, or lose the one message that a killed worker had just taken. The ledger still has
the jobs as queued; so when nothing has waited and nothing was worked on for two looks, they are sent again.
"""

import logging
from typing import TYPE_CHECKING

from configs.celeryconfig import QUEUE
from db import outbox, queries
from db.ledger import Ledger

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)


class Audit:
    """Compares ledger and queue, time and again."""

    def __init__(self, app: "Celery", ledger: Ledger) -> None:
        self.app, self.ledger = app, ledger
        self._suspicious = False

    def look(self) -> int:
        """Send what is missing again; returns how many jobs that were.

        One empty look proves nothing: a message may be on its way from Redis to a worker, or from a producer.
        """
        batches = queries.waiting_batches(self.ledger.engine) if self._is_idle() else []
        confirmed, self._suspicious = self._suspicious and bool(batches), bool(batches)
        if not confirmed:
            return 0
        self._suspicious = False
        return sum(outbox.send_batch(self.app, self.ledger.engine, batch.id) for batch in batches)

    def _is_idle(self) -> bool:
        """Whether no message waits, and none that was taken is being worked on: a killed worker still holds its own."""
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            waiting: int = channel.queue_declare(QUEUE).message_count
            taken: int = channel.client.hlen(channel.unacked_key)
        return not waiting and not (taken and queries.is_working(self.ledger.engine))
