"""The ledger against a real queue: jobs that no message speaks of are found, and sent again."""

import json
import time
from collections.abc import Callable
from itertools import chain

import pytest
from click.testing import Result
from sqlalchemy import update

from configs.celeryconfig import create_app
from db import messages, outbox
from db.ledger import Ledger, NewBatch
from db.models import BATCHES
from tests.db.conftest import job

Call = Callable[..., Result]
Found = list[tuple[str, int | None]]


@pytest.fixture
def fsck(promptmill: Call, broker: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Found]:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", broker)

    def call(*words: object) -> Found:
        *found, summary = map(json.loads, promptmill("fsck", "--json", *words).stdout.splitlines())
        assert summary["queue"]
        return [(finding["kind"], finding["job"]) for finding in found]

    return call


@pytest.fixture
def sent(home_ledger: Ledger, broker: str) -> Ledger:
    """Forty jobs, submitted an hour ago and sent in chunks of eight."""
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=40)
    batch_id = home_ledger.create_batch(new)
    home_ledger.add_jobs([job(batch_id, chunk=number // 8) for number in range(40)])
    home_ledger.open_batch(batch_id)
    outbox.send_batch(create_app(broker), home_ledger.engine, batch_id)
    with home_ledger.engine.begin() as connection:
        connection.execute(update(BATCHES).values(submitted_at=time.time() - 3600, sent_at=time.time() - 3600))
    return home_ledger


def lose(broker: str, count: int) -> None:
    """Take messages out of the queue as a worker does that is killed at once."""
    with create_app(broker).connection_for_write() as connection:
        client = connection.default_channel.client
        for _ in range(count):
            assert client.rpop("promptmill:5")


@pytest.mark.usefixtures("sent")
def test_jobs_in_messages_are_not_missed(fsck: Callable[..., Found]) -> None:
    assert fsck() == []


@pytest.mark.usefixtures("sent")
def test_jobs_without_a_message_are_found_and_sent_again(fsck: Callable[..., Found], broker: str) -> None:
    lose(broker, 2)
    assert fsck() == [("unsent", number) for number in range(1, 17)]
    assert len(fsck("--repair")) == 16
    assert fsck() == []


def test_what_a_worker_has_taken_and_not_acknowledged_is_not_missed(sent: Ledger, broker: str) -> None:
    app = create_app(broker)
    with app.connection_for_write() as connection:
        queue = connection.SimpleQueue(app.conf.task_queues[0])
        queue.get()
        assert sorted(chain.from_iterable(messages.waiting_ids(app))) == list(range(1, 41))
        queue.close()
    assert sent.engine


def test_jobs_of_a_paused_or_a_new_batch_are_not_missed(sent: Ledger, fsck: Callable[..., Found], broker: str) -> None:
    lose(broker, 1)
    sent.pause_batch(1)
    assert fsck() == []
    sent.resume_batch(1)
    assert fsck("--age", 7200) == []
    assert len(fsck()) == 8


def test_jobs_that_are_held_back_are_not_missed(sent: Ledger, fsck: Callable[..., Found], broker: str) -> None:
    lose(broker, 1)
    sent.hold_jobs(1, "demo", "unexpected", "too many failed")
    assert fsck() == []
    sent.resume_batch(1)
    assert len(fsck()) == 8


@pytest.mark.usefixtures("sent")
def test_what_is_no_message_of_ours_is_passed_over(fsck: Callable[..., Found], broker: str) -> None:
    with create_app(broker).connection_for_write() as connection:
        for junk in (
            b"\x80\x04junk",
            b"{}",
            b"[]",
            b'{"body": 7}',
            b'{"body": "bnVsbA=="}',
            b'{"body": "W1tbLTEsIngiXV1d"}',
        ):
            connection.default_channel.client.lpush("promptmill:5", junk)
    assert fsck() == []


def test_a_queue_out_of_reach_is_left_out(promptmill: Call, sent: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", "redis://:secret@127.0.0.1:1")
    result = promptmill("fsck")
    assert (result.exit_code, sent.engine is not None) == (0, True)
    assert "redis://:***@127.0.0.1:1 cannot be used" in result.stderr
    assert "no queue runs: 0 findings" in result.stdout
