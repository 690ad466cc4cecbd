import inspect
import re
from pathlib import Path

import pytest

from db.ledger import Ledger
from db.models import JobState

PAGE = (Path(__file__).parents[2] / "docs" / "job_states.md").read_text(encoding="utf-8")
DIAGRAM = re.search(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
EDGES = dict(re.findall(r"^\| (\w) \| `(\w+)` \|", PAGE, re.MULTILINE))
WRITES = [name for name, _ in inspect.getmembers(Ledger, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_a_sentence_and_a_place_in_the_picture(state: JobState) -> None:
    assert f"| `{state.value}` |" in PAGE
    assert DIAGRAM
    assert re.search(rf"--> {state.value}: ", DIAGRAM[1])


@pytest.mark.parametrize("write", WRITES)
def test_every_write_of_the_ledger_is_named(write: str) -> None:
    assert f"`{write}`" in PAGE


def test_every_edge_of_the_picture_is_explained() -> None:
    assert DIAGRAM
    drawn = {
        letter for label in re.findall(r": (\w(?:, \w)*)$", DIAGRAM[1], re.MULTILINE) for letter in label.split(", ")
    }
    assert drawn == set(EDGES)


def test_every_edge_is_made_by_a_write_of_the_ledger() -> None:
    assert set(EDGES.values()) <= set(WRITES)
