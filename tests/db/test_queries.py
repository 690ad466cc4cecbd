"""What can be asked of the ledger."""

from collections.abc import Callable

import pytest

from db import queries
from db.errors import NotInLedger
from db.ledger import Ledger
from db.models import JobState
from db.queries import JobFilter
from tests.db.conftest import IMAGE

Batch = Callable[..., list[int]]


def ids_of(ledger: Ledger, limit: int = 50, before: int | None = None, **wanted: object) -> list[int]:
    found = queries.history(ledger.engine, JobFilter(**wanted), limit=limit, before=before)  # type: ignore[arg-type]
    return [row.id for row in found]


def test_history_is_newest_first_and_paged_by_job(ledger: Ledger, batch: Batch) -> None:
    ids = batch(*[{}] * 5)
    assert ids_of(ledger, limit=2) == [ids[4], ids[3]]
    assert ids_of(ledger, limit=2, before=ids[3]) == [ids[2], ids[1]]


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [("seed", 42, 1), ("steps", 30, 20), ("scale", 5.0, 7.5), ("sampler", "Euler a", "DDIM")],
)
def test_history_filters_by_parameter(ledger: Ledger, batch: Batch, name: str, value: object, other: object) -> None:
    wanted, _ = batch({name: value}, {name: other})
    assert ids_of(ledger, **{name: value}) == [wanted]


def test_history_filters_by_words_in_any_order_and_case(ledger: Ledger, batch: Batch) -> None:
    wanted, _ = batch({"prompt": "A red Circle on blue"}, {"prompt": "a red square"})
    assert ids_of(ledger, words=("circle", "RED")) == [wanted]


@pytest.mark.parametrize("word", ["100%", "a_b", "';--", "{x}"])
def test_a_word_is_text_and_never_a_pattern(ledger: Ledger, batch: Batch, word: str) -> None:
    wanted, _ = batch({"prompt": f"x {word} y"}, {"prompt": "100 axb"})
    assert ids_of(ledger, words=(word,)) == [wanted]


@pytest.mark.parametrize("name", ["Category", "my tag", "a.b", "Größe", "$x", "it's"])
def test_history_filters_by_tag(ledger: Ledger, batch: Batch, name: str) -> None:
    wanted, _ = batch({"tags": {name: "Animals"}}, {"tags": {name: "Food"}})
    assert ids_of(ledger, tags={name: "Animals"}) == [wanted]


def test_history_filters_by_state_and_batch(ledger: Ledger, batch: Batch) -> None:
    batch({})
    (second,) = batch({})
    ledger.start_jobs([second], "w", 15)
    assert ids_of(ledger, state=JobState.RUNNING, batch_id=2) == [second]


def test_history_filters_by_flag(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {}, {})
    good, bad = ledger.start_jobs(ids[:2], "w", 15)
    ledger.finish_job(good, IMAGE)
    ledger.finish_job(bad, {**IMAGE, "flagged": "flat"})
    assert ids_of(ledger, flagged=True) == [bad.job_id]
    assert ids_of(ledger) == ids[::-1]


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
