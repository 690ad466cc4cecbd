"""What docs/history.md shows can be asked."""

import re
from pathlib import Path

import pytest

from db.ledger import Ledger
from db.search import find
from producer.query import FIELDS, parse

TEXT = (Path(__file__).parents[2] / "docs/history.md").read_text("utf-8")
QUERIES = re.findall(r"^\| `(.+?)` \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_documentation_is_understood(query: str, any_ledger: Ledger) -> None:
    assert find(any_ledger.engine, parse(query, 1.8e9), limit=1) == []


def test_every_field_is_described() -> None:
    assert [name for name in FIELDS if not re.search(rf"`[^`]*\b{name}[:><]", TEXT)] == []
