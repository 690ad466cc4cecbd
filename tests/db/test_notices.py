"""Who tells what of a batch: in SQLite and in PostgreSQL."""

import time
from collections.abc import Callable
from threading import Barrier, Thread

import pytest

from db import notices, queries
from db.ledger import Ledger
from db.notices import MANY, Event

Batch = Callable[..., list[int]]


def fail(ledger: Ledger, ids: list[int]) -> None:
    for claim in ledger.start_jobs(ids, "w", 15):
        ledger.fail_job(claim, "invalid", "no")


def test_a_batch_is_ended_when_no_job_is_left(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {})
    assert notices.ended(ledger.engine) == []
    fail(ledger, ids)
    assert [row.id for row in notices.ended(ledger.engine)] == [1]


def test_of_two_who_claim_at_once_one_tells_it(ledger: Ledger, batch: Batch) -> None:
    batch({})
    won, gate = [], Barrier(4)

    def claim() -> None:
        gate.wait()
        won.append(notices.claim(ledger, 1, Event.ENDED, 60))

    threads = [Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([until for until in won if until is not None]) == 1


def test_what_a_dead_one_has_claimed_is_told_by_another(ledger: Ledger, batch: Batch) -> None:
    fail(ledger, batch({}))
    first = notices.claim(ledger, 1, Event.ENDED, -1)
    assert [row.id for row in notices.ended(ledger.engine)] == [1]
    second = notices.claim(ledger, 1, Event.ENDED, 60)
    assert first
    assert second
    assert notices.extend(ledger, 1, Event.ENDED, first, 60) is None
    assert notices.record(ledger, 1, Event.ENDED, first) is False
    assert notices.record(ledger, 1, Event.ENDED, second) is True


def test_what_is_told_is_not_told_again(ledger: Ledger, batch: Batch) -> None:
    fail(ledger, batch({}))
    assert notices.record(ledger, 1, Event.ENDED, notices.claim(ledger, 1, Event.ENDED, 0) or 0)
    ledger.resume_batch(1)
    assert notices.ended(ledger.engine) == []
    assert notices.claim(ledger, 1, Event.ENDED, 60) is None


def test_a_batch_that_is_tried_again_ends_again(ledger: Ledger, batch: Batch) -> None:
    ids = batch({})
    fail(ledger, ids)
    notices.record(ledger, 1, Event.ENDED, notices.claim(ledger, 1, Event.ENDED, 60) or 0)
    ledger.retry_batch(1)
    fail(ledger, ids)
    assert [row.id for row in notices.ended(ledger.engine)] == [1]


def test_a_batch_that_is_held_back_is_told_once_until_it_goes_on(ledger: Ledger, batch: Batch) -> None:
    batch({})
    ledger.hold_jobs(1, "demo", "checkpoint", "no")
    assert [row.id for row in notices.held(ledger.engine)] == [1]
    notices.claim(ledger, 1, Event.HELD, 60)
    assert notices.held(ledger.engine) == []
    ledger.resume_batch(1)
    ledger.hold_jobs(1, "demo", "checkpoint", "no")
    assert [row.id for row in notices.held(ledger.engine)] == [1]


@pytest.mark.parametrize(("failed", "found"), [(MANY - 1, 0), (MANY, 1)])
def test_a_batch_fails_when_many_jobs_have_and_none_has_not(
    ledger: Ledger, batch: Batch, failed: int, found: int
) -> None:
    ids = batch(*[{}] * (MANY + 1))
    fail(ledger, ids[:failed])
    assert len(notices.failing(ledger.engine)) == found


def test_a_worker_that_fell_silent_is_not_alive(ledger: Ledger) -> None:
    ledger.report_worker("w", host="h", pid=1)
    assert notices.workers_alive(ledger.engine, 60)
    assert not notices.workers_alive(ledger.engine, -1)
    ledger.bury_worker("w")
    assert not notices.workers_alive(ledger.engine, 60)


def test_what_has_passed_may_come_again(ledger: Ledger, batch: Batch) -> None:
    batch({})
    notices.record(ledger, 1, Event.DISK, notices.claim(ledger, 1, Event.DISK, 60) or 0)
    notices.forget(ledger, [Event.DISK], 3600)
    assert not notices.is_untold(ledger.engine, 1, Event.DISK)
    time.sleep(0.01)
    notices.forget(ledger, [Event.DISK], 0)
    assert notices.is_untold(ledger.engine, 1, Event.DISK)
    assert queries.find_batch(ledger.engine, "1").id == 1
