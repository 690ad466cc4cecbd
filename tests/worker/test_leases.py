"""Leases are extended for the jobs in flight, and for no others."""

import time
from collections.abc import Callable

from db import queries
from db.ledger import Ledger
from tests.db.conftest import batch, ledger  # noqa: F401 - fixtures
from worker.leases import Leases


def test_a_held_lease_outlives_its_first_end(ledger: Ledger, batch: Callable[..., list[int]]) -> None:  # noqa: F811
    held, forgotten = ledger.start_jobs(batch({}, {}), "w", 0.4)
    with Leases(ledger, 0.4) as leases:
        leases.add([held, forgotten])
        leases.drop(forgotten)
        time.sleep(1)
        assert ledger.rescue_jobs(3) == [forgotten.job_id]


def test_a_lease_ends_when_its_holder_does(ledger: Ledger, batch: Callable[..., list[int]]) -> None:  # noqa: F811
    claims = ledger.start_jobs(batch({}), "w", 0.2)
    with Leases(ledger, 0.2) as leases:
        leases.add(claims)
    time.sleep(0.4)
    assert ledger.rescue_jobs(3) == [claims[0].job_id]
    assert queries.find_job(ledger.engine, claims[0].job_id).state.value == "queued"
