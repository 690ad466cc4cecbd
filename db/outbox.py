"""Sends what the ledger has recorded: commit first, then send.

A crash between the two leaves queued jobs that were never sent; sending a batch again is harmless, since a job that is
no longer queued is not started.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import Engine

from configs.celeryconfig import QUEUE, TASK
from db import queries
from db.ledger import Ledger

if TYPE_CHECKING:
    from celery import Celery

#: Messages of one round trip to Redis.
PUBLISH_SIZE = 500
#: Rescued jobs go before everything else: somebody has waited for them long enough.
RESCUE_PRIORITY = 0


def send_batch(app: "Celery", engine: Engine, batch_id: int) -> int:
    """Send every queued job of the batch in its chunks; returns how many jobs were sent.

    Raises:
        kombu.exceptions.OperationalError: the queue cannot be reached; the rows stay queued.
    """
    priority = queries.find_batch(engine, str(batch_id)).priority
    # First: while its messages are on their way, the audit must not miss them.
    Ledger(engine).mark_sent(batch_id)
    return send(app, (ids for _, ids in queries.chunks(engine, batch_id)), priority=priority)


def send(app: "Celery", chunks: Iterable[list[int]], *, priority: int) -> int:
    """Send chunks of job ids, one message each; returns how many jobs they carried."""
    message = app.amqp.as_task_v2("", TASK, argsrepr="", kwargsrepr="")
    sent = 0
    with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=PUBLISH_SIZE):
        for ids in chunks:
            # Celery's send_task makes the same message, in four times the time.
            task_id = str(uuid4())
            producer.publish(
                ((ids,), *message.body[1:]),
                headers={**message.headers, "id": task_id, "root_id": task_id},
                correlation_id=task_id,
                reply_to="",
                routing_key=QUEUE,
                serializer="json",
                priority=priority,
            )
            sent += len(ids)
    return sent
