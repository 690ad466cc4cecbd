"""What can be asked of the ledger."""

from collections.abc import Callable

import pytest

from db import queries
from db.errors import NotInLedger
from db.ledger import Ledger
from db.models import JobState

Batch = Callable[..., list[int]]


def test_counts_name_every_state(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {}, {})
    ledger.start_jobs(ids[:1], "w", 15)
    found = queries.counts(ledger.engine, 1)
    assert (found[JobState.RUNNING], found[JobState.QUEUED], found[JobState.FAILED]) == (1, 2, 0)


def test_chunks_hold_the_queued_jobs_only(ledger: Ledger, batch: Batch) -> None:
    ids = batch({"chunk": 0}, {"chunk": 0}, {"chunk": 1})
    ledger.start_jobs(ids[:1], "w", 15)
    assert list(queries.chunks(ledger.engine, 1)) == [(0, [ids[1]]), (1, [ids[2]])]


def test_chunks_go_on_over_pages(ledger: Ledger, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    ids = batch(*({"chunk": i // 3} for i in range(7)))
    assert [chunk for _, chunk in queries.chunks(ledger.engine, 1)] == [ids[:3], ids[3:6], ids[6:]]


def test_a_batch_is_found_by_id_by_name_and_as_the_newest(ledger: Ledger, batch: Batch) -> None:
    batch({})
    batch({})
    assert [queries.find_batch(ledger.engine, name).id for name in ("1", "cats.csv", None)] == [1, 2, 2]


def test_an_unknown_batch_is_named(ledger: Ledger) -> None:
    with pytest.raises(NotInLedger, match=r"no batch dogs\.csv"):
        queries.find_batch(ledger.engine, "dogs.csv")
