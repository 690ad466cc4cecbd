"""Failures in a row with one cause stop their lane."""

from worker.breaker import Breaker


def fail(breaker: Breaker, count: int, cause: str = "checkpoint", model: str = "a", batch: int = 1) -> list[bool]:
    return [breaker.fail(batch, model, cause, "No such file.") for _ in range(count)]


def test_the_lane_breaks_after_so_many_failures_in_a_row() -> None:
    assert fail(Breaker(3), 5) == [False, False, False, True, True]


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(3)
    fail(breaker, 3)
    breaker.succeed(1, "a")
    assert fail(breaker, 3) == [False] * 3


def test_other_checkpoints_and_batches_are_other_lanes() -> None:
    breaker = Breaker(3)
    fail(breaker, 9)
    breaker.succeed(1, "b")
    assert fail(breaker, 3, model="b") == fail(breaker, 3, batch=2) == [False] * 3
    assert fail(breaker, 1) == [True]


def test_another_cause_is_another_row() -> None:
    breaker = Breaker(3)
    fail(breaker, 2, "nan")
    assert fail(breaker, 3, "memory") == [False] * 3


def test_invalid_jobs_stop_nothing() -> None:
    assert not any(fail(Breaker(3), 100, "invalid"))


def test_unexpected_errors_end_the_worker_once_whatever_they_are_about() -> None:
    told: list[str] = []
    breaker = Breaker(3, told.append)
    for number in range(9):
        fail(breaker, 1, "unexpected", batch=number)
    assert told == ["No such file."]
