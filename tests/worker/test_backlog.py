"""What the engine is told of the queue."""

from collections.abc import Callable
from typing import Any

import pytest

from db.ledger import Ledger
from tests.db.conftest import batch, ledger  # noqa: F401 - fixtures
from worker import backlog
from worker.backlog import Backlog
from worker.sample import Shape

SHAPE = Shape("demo", 128, 128)


def test_a_look_is_good_for_a_while(
    ledger: Ledger,  # noqa: F811
    batch: Callable[..., Any],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Backlog(ledger.engine)
    assert found.work(SHAPE) == 0
    batch({"steps": 10})
    found.look()
    batch({"steps": 10})
    found.look()
    assert found.work(SHAPE) == 20
    monkeypatch.setattr(backlog, "GOOD_FOR", 0.0)
    found.look()
    assert found.work(SHAPE) == 40
