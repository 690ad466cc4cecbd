"""How much work waits, by what can share a call."""

from collections.abc import Callable
from typing import Any

from db.backlog import queued_work
from db.ledger import Ledger

BIG = {"width": 512, "height": 512, "steps": 10, "precision": None}


def test_guided_jobs_count_twice_and_each_shape_for_itself(ledger: Ledger, batch: Callable[..., Any]) -> None:
    batch(
        {**BIG, "scale": 7.5}, {**BIG, "scale": 1.0}, {**BIG, "precision": "float32"}, {"steps": 3, "precision": None}
    )
    assert queued_work(ledger.engine) == {
        ("demo", 512, 512, None): 30,
        ("demo", 512, 512, "float32"): 20,
        ("demo", 128, 128, None): 6,
    }


def test_what_runs_or_is_paused_does_not_wait(ledger: Ledger, batch: Callable[..., Any]) -> None:
    first, _ = batch(BIG, BIG)
    ledger.start_jobs([first], "w", 60)
    assert queued_work(ledger.engine) == {("demo", 512, 512, None): 20}
    ledger.pause_batch(1)
    assert queued_work(ledger.engine) == {}


def test_workers_share_it(ledger: Ledger, batch: Callable[..., Any]) -> None:
    ids = batch(*[BIG] * 6)
    for name, job_id in zip("abc", ids, strict=False):
        ledger.start_jobs([job_id], name, 60)
    assert queued_work(ledger.engine) == {("demo", 512, 512, None): 20}
