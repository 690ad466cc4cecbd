"""The jobs around one."""

from collections.abc import Callable

from db.ledger import Ledger
from db.neighbours import neighbours


def test_neighbours_are_of_the_batch_whatever_their_states(ledger: Ledger, batch: Callable[..., list[int]]) -> None:
    first = batch({}, {}, {}, {})
    batch({})
    ledger.start_jobs(first[1:2], "w", 15)
    found = {count: [row.id for row in neighbours(ledger.engine, 1, first[2], count)] for count in (1, 5)}
    assert found == {1: first[1:], 5: first}
    assert [row.id for row in neighbours(ledger.engine, 1, first[0], 1)] == first[:2]
