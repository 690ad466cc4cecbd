"""No typical question reads a whole table of SQLite, or puts what it finds in order: a large ledger answers at once."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from db.ledger import Ledger
from db.search import find
from producer.query import parse

QUERIES = [
    "castle", '"sharp focus"', 'castle "golden hour"', "red -castle", "lighth*", "castle steps:20..30", "seed:42",
    "steps:20..30 scale>7", "sampler:ddim since:2d", "batch:7 state:failed", "tag.category:Animals", "flagged:yes",
    "size:512x768 took>7s", "model:demo before:2026-11-01", "state:queued",
]  # fmt: skip


@pytest.fixture
def ledger(home_ledger: Ledger) -> Ledger:
    return home_ledger


@pytest.fixture
def plan(ledger: Ledger, batch: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What SQLite does for a query, when a page is not found at once and nothing is rare."""
    monkeypatch.setattr("db.passage.NEXT", 2)
    monkeypatch.setattr("db.passage.RARE", -1)
    monkeypatch.setattr("db.orders.FEW", 2)
    batch(*[{}] * 9)
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        asked.append((statement, values))

    def explain(query: str, sort: str = "id") -> str:
        event.listen(ledger.engine, "before_cursor_execute", note)
        find(ledger.engine, parse(query, 1.8e9), limit=50, sort=sort)
        event.remove(ledger.engine, "before_cursor_execute", note)
        searches = [(statement, values) for statement, values in asked if "AS place" in statement]
        with ledger.engine.connect() as connection:
            plans = [
                connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all() for text, values in searches
            ]
        return "\n".join(row.detail for rows in plans for row in rows)

    return explain


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_reads_no_whole_table(plan: Callable[..., str], query: str) -> None:
    steps = plan(query)
    assert "SEARCH job" in steps
    assert not re.search(r"SCAN (job|image)\b(?! USING)", steps)
    assert "ORDER BY" not in steps


@pytest.mark.parametrize("index", ["job_steps", "job_scale", "job_finished", "image_seconds", "image_bytes"])
def test_a_page_in_another_order_follows_an_index(plan: Callable[..., str], index: str) -> None:
    name = index.partition("_")[2]
    assert f"COVERING INDEX {index}" in plan("", "took" if name == "seconds" else name)
