"""Whatever a prompt file holds: it is taken whole, or refused with its problems named and nothing recorded."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

from db.ledger import Ledger
from tests.fuzz.prompt_bytes import CORPUS, SUFFIXES, contents

Call = Callable[..., Result]


def recorded(ledger: Ledger) -> tuple[int, ...]:
    """Batches, those that are open, their jobs by what they say and by count."""
    counts = "SELECT count(*), count(submitted_at), coalesce(sum(total), 0), (SELECT count(*) FROM job) FROM batch"
    with ledger.engine.connect() as connection:
        return tuple(connection.exec_driver_sql(counts).one())


def submit(promptmill: Call, ledger: Ledger, name: str, content: bytes) -> Result:
    """Submit a file of that content, and look at what is left of that."""
    Path(name).write_bytes(content)
    before = recorded(ledger)
    result = promptmill("submit", name)
    batches, opened, told, jobs = (now - then for now, then in zip(recorded(ledger), before, strict=True))
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in result.output if c not in "\n\u200c\u200d")
    if result.exit_code == 0:
        assert (batches, opened, told) == (1, 1, jobs)
        assert jobs > 0
    else:
        assert (result.exit_code, batches, jobs) == (2, 0, 0)
        assert all(line.startswith(("Error: ", name)) for line in result.stderr.splitlines())
    return result


@given(content=contents, suffix=st.sampled_from(SUFFIXES))
@settings(settings.get_profile("fuzz"))
def test_a_file_is_taken_whole_or_not_at_all(
    promptmill: Call, home_ledger: Ledger, content: bytes, suffix: str
) -> None:
    submit(promptmill, home_ledger, f"fuzz{suffix}", content)


@pytest.mark.parametrize("name", CORPUS)
def test_what_once_went_wrong_is_tried_again(promptmill: Call, home_ledger: Ledger, name: str) -> None:
    submit(promptmill, home_ledger, name, CORPUS[name])
