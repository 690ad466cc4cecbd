"""What is said of a batch under way."""

from dataclasses import replace
from pathlib import Path

import pytest

from configs.settings import get_settings
from db.ledger import Ledger
from producer.progress import Counts, Rate, clock, describe, watch
from producer.submit import check, record


def counts(succeeded: int, *, queued: int = 0, running: int = 1, failed: int = 0) -> Counts:
    return Counts(queued=queued, running=running, succeeded=succeeded, failed=failed, cancelled=0)


def test_the_rate_is_that_of_the_last_minute() -> None:
    rate = Rate()
    for second in range(120):
        rate.add(second, counts(second if second < 60 else 60 + 3 * (second - 60)))
    assert rate.per_second() == pytest.approx(3, rel=0.05)
    assert rate.seconds_for(30) == pytest.approx(10, rel=0.05)


def test_the_rate_leaves_out_the_time_before_the_first_job_runs() -> None:
    rate = Rate()
    rate.add(0, counts(0, queued=10, running=0))
    rate.add(50, counts(0, queued=8, running=2))
    rate.add(52, counts(4, queued=4, running=2))
    assert rate.per_second() == 2


def test_nothing_is_promised_before_a_job_has_ended() -> None:
    rate = Rate()
    rate.add(0, counts(0, queued=9))
    assert rate.seconds_for(10) is None
    assert describe(counts(0, queued=9), rate) == "0 done, 0 failed, 10 left"


def test_a_line_tells_done_failed_left_rate_and_time() -> None:
    rate = Rate()
    rate.add(0, counts(0))
    rate.add(10, counts(20, queued=99, failed=5))
    line = describe(counts(20, queued=99, failed=5), rate)
    assert line == "20 done, 5 failed, 100 left, 2.50 images/s, 0:40 to go"


def test_a_batch_that_waits_says_why() -> None:
    assert describe(counts(3, queued=9, running=0), Rate()) == "waiting for a worker, 3 done, 0 failed, 9 left"
    assert describe(replace(counts(3, queued=9), paused=True), Rate()).startswith("paused, 3 done")


@pytest.mark.parametrize(("seconds", "shown"), [(5, "0:05"), (125, "2:05"), (3723, "1:02:03"), (200_000, "2 d 7 h")])
def test_times_are_short(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_watching_a_batch_ends_with_its_last_job(
    home: Path, home_ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(exist_ok=True)
    (home / "a.txt").write_text("cat\ndog\n")
    batch = record(check(str(home / "a.txt"), get_settings()), home_ledger)
    home_ledger.pause_batch(batch.id)
    assert Counts.read(home_ledger.engine, batch.id).paused
    home_ledger.cancel_batch(batch.id)
    assert watch(home_ledger.engine, batch).cancelled == 2
    assert "2 cancelled" in capsys.readouterr().err
