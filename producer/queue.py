"""The queue as the producer sees it: something to send job ids to, which may be out of reach."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from configs.celeryconfig import create_app
from configs.redaction import redact
from configs.settings import Settings
from db import messages, outbox
from db.ledger import Ledger
from producer.errors import QueueUnreachable

if TYPE_CHECKING:
    from celery import Celery


def find_url(settings: Settings) -> str | None:
    """The queue to send to: the configured one, else the embedded one that another process runs, else None."""
    from producer.embedded import running_url

    return settings.broker_url or running_url(settings.home)


class Queue:
    """Sends to the queue at ``url``.

    Raises:
        QueueUnreachable: it does not answer; the jobs stay queued in the ledger.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._app: Celery = create_app(url)

    def ping(self) -> None:
        with self._reaching(), self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)

    def send_batch(self, ledger: Ledger, batch_id: int) -> int:
        """Send every queued job of the batch; returns how many."""
        consequence = f"Batch {batch_id} is recorded and not sent yet: `promptmill resume {batch_id}` sends it. "
        with self._reaching(consequence):
            return outbox.send_batch(self._app, ledger.engine, batch_id)

    def send(self, chunks: Iterable[list[int]], priority: int) -> None:
        with self._reaching():
            outbox.send(self._app, chunks, priority=priority)

    def waiting_ids(self) -> Iterator[list[int]]:
        """The jobs that messages speak of, message by message; see `db.messages`."""
        with self._reaching():
            yield from messages.waiting_ids(self._app)

    def send_rescued(self, job_ids: Sequence[int]) -> None:
        """One id a message: a job that kills its worker then takes no other with it."""
        with self._reaching():
            outbox.send(self._app, ([job_id] for job_id in job_ids), priority=outbox.RESCUE_PRIORITY)

    @contextmanager
    def _reaching(self, consequence: str = "") -> Iterator[None]:
        from kombu.exceptions import OperationalError
        from redis.exceptions import RedisError

        try:
            yield
        except (OperationalError, RedisError, OSError) as error:
            reason = redact(str(error)).rstrip(".")
            raise QueueUnreachable(f"{consequence}The queue at {shown(self.url)} cannot be used: {reason}.") from error


def shown(url: str) -> str:
    """The URL without its password."""
    return redact(url)
