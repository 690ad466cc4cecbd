"""Jobs are found by what a query asks of them."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import event

from db.ledger import Ledger, NewBatch
from db.search import Place, find
from db.session import open_database
from producer.query import parse
from tests.db.conftest import IMAGE, job

Batch = Callable[..., list[int]]


def ids_of(ledger: Ledger, query: str = "", limit: int = 50, **given: object) -> list[int]:
    return [row.id for row in find(ledger.engine, parse(query, 0), limit=limit, **given)]  # type: ignore[arg-type]


def test_jobs_are_newest_first_and_paged(ledger: Ledger, batch: Batch) -> None:
    ids = batch(*[{}] * 5)
    assert ids_of(ledger, limit=2) == [ids[4], ids[3]]
    assert ids_of(ledger, limit=2, after=Place(ids[3], ids[3])) == [ids[2], ids[1]]


def test_pages_in_another_order_leave_none_out_where_values_are_equal(ledger: Ledger, batch: Batch) -> None:
    batch(*({"steps": steps} for steps in (20, 30, 20, 30, 20)))
    found = find(ledger.engine, parse("", 0), limit=3, sort="steps")
    rest = find(ledger.engine, parse("", 0), limit=9, sort="steps", after=Place(found[-1].place, found[-1].id))
    assert [row.id for row in (*found, *rest)] == [4, 2, 5, 3, 1]


@pytest.mark.parametrize(
    ("query", "values", "other"),
    [
        ("seed:42", {"seed": 42}, {"seed": 1}),
        ("steps:25..30", {"steps": 30}, {"steps": 31}),
        ("scale>7", {"scale": 7.5}, {"scale": 7.0}),
        ("-sampler:DDIM", {"sampler": "Euler a"}, {"sampler": "DDIM"}),
        ("size:512x768", {"width": 512, "height": 768}, {"width": 768, "height": 512}),
        ("seed:1,5..", {"seed": 6}, {"seed": 2}),
        ("circle RED", {"prompt": "A red Circle on blue"}, {"prompt": "a red square"}),
        ('"red circle"', {"prompt": "Red circle"}, {"prompt": "a circle, red"}),
        ("circ*", {"prompt": "circles"}, {"prompt": "a square"}),
        ("-circle", {"prompt": "a square"}, {"prompt": "a circle"}),
        ('red -"CIRCLE on blue"', {"prompt": "red: on a blue circle"}, {"prompt": "Red Circle, on blue"}),
        ("red -café -circ*", {"prompt": "red tea"}, {"prompt": "red café, circles"}),
        ("negative:blurry", {"negative_prompt": "blurry"}, {"prompt": "blurry"}),
        ("blurry", {"negative_prompt": "blurry"}, {}),
        ("';--", {"prompt": "x ';-- y"}, {"prompt": "100 axb"}),
        ("-failed:memory state:queued", {}, None),
    ],
)
def test_a_query_finds(ledger: Ledger, batch: Batch, query: str, values: object, other: object) -> None:
    wanted, *_ = batch(values, *([other] if other is not None else []))
    assert ids_of(ledger, query) == [wanted]


@pytest.mark.parametrize("name", ["Category", "my tag", "a.b", "Größe", "$x", "it's", '12" x', "a\\b", '"['])
def test_a_tag_is_found(ledger: Ledger, batch: Batch, name: str) -> None:
    wanted, _ = batch({"tags": {name: "Animals"}}, {"tags": {name: "Food"}})
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    assert ids_of(ledger, f'tag."{quoted}":Animals') == [wanted]


def test_words_recorded_after_a_search_are_found(ledger: Ledger, batch: Batch) -> None:
    (first,) = batch({"prompt": "a fox"})
    assert ids_of(ledger, "fox") == [first]
    (second,) = batch({"prompt": "a fox"})
    assert ids_of(ledger, "fox") == [second, first]


def test_words_of_discarded_jobs_are_forgotten(ledger: Ledger, batch: Batch) -> None:
    (job,) = batch({"prompt": "a fox"})
    assert ids_of(ledger, "fox") == [job]
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM job")
    batch({"prompt": "a hen"})
    assert ids_of(ledger, "fox") == []


def test_flags_and_batches_are_found(ledger: Ledger, batch: Batch) -> None:
    ids = batch({}, {}, {})
    good, bad = ledger.start_jobs(ids[:2], "w", 15)
    ledger.finish_job(good, IMAGE)
    ledger.finish_job(bad, {**IMAGE, "flagged": "flat"})
    assert ids_of(ledger, "flagged:yes") == ids_of(ledger, "flagged:flat") == [bad.job_id]
    assert ids_of(ledger, "flagged:no took>0.05") == [good.job_id]
    assert ids_of(ledger, "batch:cats.csv") == ids_of(ledger, "batch:1") == ids[::-1]


def test_a_search_waits_while_the_ledger_is_locked(home_ledger: Ledger) -> None:
    engine = home_ledger.engine
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0").close())
    new = NewBatch(name="cats.csv", slug="cats", source_sha256="0" * 64, image_format="png", total=1)
    home_ledger.add_jobs([job(home_ledger.create_batch(new))])
    engine.dispose()
    writer = open_database(str(engine.url)).connect()
    writer.exec_driver_sql("SELECT 1")
    threading.Timer(0.2, writer.close).start()
    assert ids_of(home_ledger, "circle") == [1]
