"""Counts over what a query finds."""

from collections.abc import Callable

import pytest

from db.ledger import Ledger
from db.tally import COUNTED_BY, tally
from producer.query import parse
from tests.db.conftest import IMAGE


@pytest.mark.parametrize("by", COUNTED_BY)
def test_images_failures_and_time_are_counted_by_each_key(
    ledger: Ledger, batch: Callable[..., list[int]], by: str
) -> None:
    ids = batch({}, {}, {})
    good, bad = ledger.start_jobs(ids[:2], "w", 15)
    ledger.finish_job(good, IMAGE)
    ledger.fail_job(bad, "memory", "none left")
    rows = tally(ledger.engine, parse("-state:queued", 0), by)
    assert [(row.images, row.failures) for row in rows] == [(1, 1)]
    assert rows[0].seconds == pytest.approx(0.05)


def test_only_what_the_query_finds_is_counted(ledger: Ledger, batch: Callable[..., list[int]]) -> None:
    ids = batch({"prompt": "a fox"}, {"prompt": "a hen", "sampler": "Euler a"})
    for claim in ledger.start_jobs(ids, "w", 15):
        ledger.fail_job(claim, "memory", "none left")
    assert [row.key for row in tally(ledger.engine, parse("hen", 0), "sampler")] == ["Euler a"]
