"""Jobs whose messages the queue has lost are sent again; on a real Valkey and a real Redis."""

from collections.abc import Callable

import pytest

from configs.celeryconfig import create_app
from db import outbox
from db.ledger import Ledger
from tests.db.conftest import batch, ledger  # noqa: F401 - fixtures
from worker.audit import Audit

Batch = Callable[..., list[int]]


@pytest.fixture
def audit(broker: str, ledger: Ledger) -> Audit:  # noqa: F811
    return Audit(create_app(broker), ledger)


def flush(audit: Audit) -> None:
    with audit.app.connection_for_write() as connection:
        connection.default_channel.client.flushall()


def test_jobs_that_were_never_sent_are_sent_at_the_second_look(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch({}, {})
    assert [audit.look(), audit.look(), audit.look()] == [0, 2, 0]


def test_jobs_that_wait_in_the_queue_are_left_alone(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch({}, {})
    outbox.send_batch(audit.app, audit.ledger.engine, 1)
    assert [audit.look() for _ in range(3)] == [0, 0, 0]


def test_a_flushed_queue_is_healed(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch(*[{}] * 20)
    outbox.send_batch(audit.app, audit.ledger.engine, 1)
    flush(audit)
    assert [audit.look(), audit.look()] == [0, 20]


def test_a_paused_batch_is_not_sent(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch({})
    audit.ledger.pause_batch(1)
    assert [audit.look() for _ in range(3)] == [0, 0, 0]


def test_a_queue_that_was_busy_in_between_starts_the_suspicion_anew(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch({})
    assert audit.look() == 0
    outbox.send(audit.app, [[1]], priority=5)
    assert audit.look() == 0
    flush(audit)
    assert [audit.look(), audit.look()] == [0, 1]


def test_a_message_that_a_killed_worker_holds_is_not_waited_for(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch({}, {})
    with audit.app.connection_for_write() as connection:
        connection.default_channel.client.hset(connection.default_channel.unacked_key, "tag", "message")
    assert [audit.look(), audit.look()] == [0, 2]


def test_a_message_that_is_being_worked_on_is_waited_for(audit: Audit, batch: Batch) -> None:  # noqa: F811
    ids = batch({}, {})
    audit.ledger.start_jobs(ids[:1], "w", 15)
    with audit.app.connection_for_write() as connection:
        connection.default_channel.client.hset(connection.default_channel.unacked_key, "tag", "message")
    assert [audit.look() for _ in range(3)] == [0, 0, 0]
