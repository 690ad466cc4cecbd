import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.models import METADATA, JobState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
PART, _, REFUSED = PAGE.partition("## Words not used")
WORDS = {word for cell in re.findall(r"^\| ([^|]+) \| \S", PART, re.MULTILINE) for word in cell.split(", ")}
#: Those without "for …" are refused in every sense.
SYNONYMS = re.findall(r"^\| ([a-z]+) \| ", REFUSED, re.MULTILINE)
#: What a library calls its hooks.
OUTSIDE = {"shell_complete"}
SOURCES = [source for package in ("configs", "db", "producer", "worker") for source in (ROOT / package).rglob("*.py")]


def test_every_state_is_a_word() -> None:
    assert {state.value for state in JobState} <= WORDS


def test_every_table_is_a_word() -> None:
    assert set(METADATA.tables) <= WORDS


def test_every_place_exists() -> None:
    places = re.findall(r"`((?:configs|db|producer|worker)/[\w./]*)`", PART)
    assert places
    assert [place for place in places if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("synonym", SYNONYMS)
def test_a_synonym_is_no_word_and_no_name(synonym: str) -> None:
    assert synonym not in WORDS
    ours = [name for source in SOURCES for name in names(source) if name not in OUTSIDE]
    assert [name for name in ours if synonym in name.lower().split("_")] == []


def names(source: Path) -> Iterator[str]:
    """The file's own name, and those of its functions and classes."""
    yield source.stem
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
