"""Jobs whose messages the queue has lost are sent again; on a real Valkey and a real Redis."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from configs.celeryconfig import QUEUE, create_app
from db import outbox
from db.ledger import Ledger
from db.messages import waiting_ids
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


@contextmanager
def taken(audit: Audit, age: float = 0) -> Iterator[None]:
    """The next message is in the hands of a worker, which took it so many seconds ago."""
    with audit.app.connection_for_write() as connection:
        queue = connection.SimpleQueue(QUEUE)
        queue.get(timeout=5)
        channel = queue.channel
        if age:
            tag, _ = channel.client.zrange(channel.unacked_index_key, 0, 0, withscores=True)[0]
            channel.client.zadd(channel.unacked_index_key, {tag: time.time() - age})
        yield
        queue.close()


def test_a_message_that_was_just_taken_is_waited_for(audit: Audit, batch: Batch) -> None:  # noqa: F811
    ids = batch({}, {})
    outbox.send(audit.app, [ids], priority=5)
    with taken(audit):
        assert [audit.look() for _ in range(3)] == [0, 0, 0]


def test_a_message_whose_worker_never_started_its_jobs_is_sent_again(audit: Audit, batch: Batch) -> None:  # noqa: F811
    ids = batch({}, {})
    outbox.send(audit.app, [ids], priority=5)
    with taken(audit, age=60):
        assert [audit.look(), audit.look(), audit.look()] == [0, 2, 0]


def test_half_a_lost_queue_is_healed_while_the_other_half_is_busy(
    audit: Audit,
    batch: Batch,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = batch(*[{"chunk": number // 4} for number in range(40)])
    outbox.send(audit.app, [ids[:20]], priority=5)
    monkeypatch.setattr("db.queries.SENDING", -1)
    assert [audit.look(), audit.look(), audit.look()] == [0, 20, 0]
    assert sorted(found for found in waiting_ids(audit.app)) == sorted(
        [ids[:20], *(ids[i : i + 4] for i in range(20, 40, 4))]
    )


def test_a_batch_that_is_being_sent_is_left_alone(audit: Audit, batch: Batch) -> None:  # noqa: F811
    ids = batch(*[{}] * 40)
    outbox.send(audit.app, [ids[:20]], priority=5)
    assert [audit.look() for _ in range(3)] == [0, 0, 0]


def test_jobs_that_are_held_back_are_not_sent(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch({}, {"model": "other"})
    audit.ledger.hold_jobs(1, "demo", "checkpoint", "No such file.")
    assert [audit.look(), audit.look(), audit.look()] == [0, 1, 0]


def test_one_worker_audits_for_all(audit: Audit, batch: Batch) -> None:  # noqa: F811
    batch({})
    other = Audit(audit.app, audit.ledger)
    assert [audit.look(), other.look(), other.look(), audit.look()] == [0, 0, 0, 1]
