"""The life of a job: who may start it, end it, and take it back."""

import threading
import time
from collections.abc import Callable

import pytest

from db import queries
from db.claim import Claim
from db.errors import NotInLedger
from db.ledger import Ledger, NewBatch
from db.models import JobState
from tests.db.conftest import IMAGE, job

Batch = Callable[..., list[int]]


def state(ledger: Ledger, job_id: int) -> JobState:
    return queries.find_job(ledger.engine, job_id).state


def test_a_job_is_started_once(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {})
    assert ledger.start_jobs(ids, "a", 15) == [Claim(ids[0], 1), Claim(ids[1], 1)]
    assert ledger.start_jobs(ids, "b", 15) == []


def test_jobs_raced_for_by_threads_are_each_started_once(ledger: Ledger, batch: Batch) -> None:
    ids = batch(*[{}] * 40)
    started: list[Claim] = []
    threads = [threading.Thread(target=lambda: started.extend(ledger.start_jobs(ids, "w", 15))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.job_id for claim in started) == ids


def test_a_finished_job_has_its_image(ledger: Ledger, batch: Batch) -> None:
    (job_id,) = batch({})
    (claim,) = ledger.start_jobs([job_id], "w", 15)
    assert ledger.finish_job(claim, IMAGE)
    found = queries.find_job(ledger.engine, job_id)
    assert (found.state, found.image_path, found.lease_until) == (JobState.SUCCEEDED, IMAGE["path"], None)


def test_a_result_is_recorded_once(ledger: Ledger, batch: Batch) -> None:
    (claim,) = ledger.start_jobs(batch({}), "w", 15)
    assert [ledger.finish_job(claim, IMAGE), ledger.finish_job(claim, IMAGE)] == [True, False]


def test_a_late_result_is_refused(ledger: Ledger, batch: Batch) -> None:
    (job_id,) = batch({})
    (late,) = ledger.start_jobs([job_id], "frozen", -1)
    assert ledger.rescue_jobs(max_attempts=3) == [job_id]
    (fresh,) = ledger.start_jobs([job_id], "other", 15)
    assert [ledger.finish_job(late, IMAGE), ledger.finish_job(fresh, IMAGE)] == [False, True]


def test_a_late_failure_is_refused(ledger: Ledger, batch: Batch) -> None:
    (late,) = ledger.start_jobs(batch({}), "frozen", -1)
    ledger.rescue_jobs(max_attempts=3)
    assert not ledger.fail_job(late, "invalid", "x")
    assert ledger.retry_job(late, "unexpected", "x", 3) is None
    assert ledger.release_jobs([late]) == []


def test_a_renewed_lease_is_not_rescued(ledger: Ledger, batch: Batch) -> None:
    claims = ledger.start_jobs(batch({}, {}), "w", -1)
    ledger.renew_leases(claims[:1], 15)
    assert ledger.rescue_jobs(max_attempts=3) == [claims[1].job_id]


def test_the_jobs_of_a_dead_worker_are_rescued_before_their_lease_ends(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {})
    ledger.start_jobs(ids[:1], "dead", 15)
    ledger.start_jobs(ids[1:], "alive", 15)
    assert ledger.rescue_jobs(max_attempts=3, worker="dead") == ids[:1]


def test_a_job_that_kills_its_workers_is_failed_as_poison(ledger: Ledger, batch: Batch) -> None:
    (job_id,) = batch({})
    for _ in range(3):
        assert ledger.start_jobs([job_id], "w", -1)
        ledger.rescue_jobs(max_attempts=3)
    found = queries.find_job(ledger.engine, job_id)
    assert (found.state, found.cause, found.attempts) == (JobState.FAILED, "poison", 3)


def test_an_unexpected_error_is_retried_until_the_attempts_are_used_up(ledger: Ledger, batch: Batch) -> None:
    (job_id,) = batch({})
    outcomes = []
    for _ in range(3):
        (claim,) = ledger.start_jobs([job_id], "w", 15)
        outcomes.append(ledger.retry_job(claim, "unexpected", "Traceback", max_attempts=3))
    assert outcomes == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]


def test_a_released_job_has_lost_no_attempt(ledger: Ledger, batch: Batch) -> None:
    (job_id,) = batch({})
    assert ledger.release_jobs(ledger.start_jobs([job_id], "w", 15)) == [job_id]
    found = queries.find_job(ledger.engine, job_id)
    assert (found.state, found.attempts, found.worker) == (JobState.QUEUED, 0, None)


def test_a_paused_batch_is_not_started(ledger: Ledger, batch: Batch) -> None:
    ids = batch({})
    ledger.pause_batch(1)
    assert ledger.start_jobs(ids, "w", 15) == []
    ledger.resume_batch(1)
    assert len(ledger.start_jobs(ids, "w", 15)) == 1


def test_cancelling_spares_what_is_running(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {}, {})
    ledger.start_jobs(ids[:1], "w", 15)
    assert ledger.cancel_batch(1) == 2
    assert [state(ledger, i).value for i in ids] == ["running", "cancelled", "cancelled"]


@pytest.mark.parametrize("way", ["release", "rescue", "retry"])
def test_a_running_job_of_a_cancelled_batch_is_not_queued_again(ledger: Ledger, batch: Batch, way: str) -> None:
    (claim,) = ledger.start_jobs(batch({}), "w", -1)
    ledger.cancel_batch(1)
    again = {
        "release": lambda: ledger.release_jobs([claim]),
        "rescue": lambda: ledger.rescue_jobs(3),
        "retry": lambda: ledger.retry_job(claim, "nan", "x", 3) is JobState.QUEUED,
    }[way]()
    assert not again
    assert state(ledger, claim.job_id) is JobState.CANCELLED


def test_retry_puts_back_what_failed_and_what_was_cancelled(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {}, {})
    claims = ledger.start_jobs(ids[:2], "w", 15)
    ledger.fail_job(claims[0], "invalid", "x")
    ledger.finish_job(claims[1], IMAGE)
    ledger.cancel_batch(1)
    assert ledger.retry_batch(1) == 2
    assert [state(ledger, i).value for i in ids] == ["queued", "succeeded", "queued"]


def test_an_unopened_batch_is_not_started_and_can_be_discarded(ledger: Ledger) -> None:
    new = NewBatch(name="a", slug="a", source_sha256="", image_format="png", total=1)
    batch_id = ledger.create_batch(new)
    ledger.add_jobs([job(batch_id)])
    assert ledger.start_jobs([1], "w", 15) == []
    ledger.discard_batch(batch_id)
    assert queries.batches(ledger.engine) == []
    with pytest.raises(NotInLedger):
        queries.find_job(ledger.engine, 1)


def test_an_open_batch_cannot_be_discarded(ledger: Ledger, batch: Batch) -> None:
    (job_id,) = batch({})
    ledger.discard_batch(1)
    assert state(ledger, job_id) is JobState.QUEUED


def test_an_unknown_batch_is_named(ledger: Ledger) -> None:
    with pytest.raises(NotInLedger, match="no batch 7"):
        ledger.pause_batch(7)


def test_times_are_recorded(ledger: Ledger, batch: Batch) -> None:
    before = time.time()
    (claim,) = ledger.start_jobs(batch({}), "w", 15)
    ledger.finish_job(claim, IMAGE)
    found = queries.find_job(ledger.engine, claim.job_id)
    assert before <= found.started_at <= found.finished_at <= time.time()
