"""Sends what the ledger has recorded: commit first, then send.

A crash between the two leaves queued jobs that were never sent; sending a batch again is harmless, since a job that is
no longer queued is not started.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from configs.celeryconfig import QUEUE, TASK
from db import queries

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
    return send(app, (ids for _, ids in queries.chunks(engine, batch_id)), priority=priority)


def send(app: "Celery", chunks: Iterable[list[int]], *, priority: int) -> int:
    """Send chunks of job ids, one message each; returns how many jobs they carried."""
    sent = 0
    with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=PUBLISH_SIZE):
        for ids in chunks:
            app.send_task(
                TASK,
                args=(ids,),
                queue=QUEUE,
                priority=priority,
                producer=producer,
                retry=False,
                # Celery would put a printed copy of every argument into the message.
                argsrepr="",
                kwargsrepr="",
            )
            sent += len(ids)
    return sent
