"""An expired lease tells of a silent worker only when workers were able to renew theirs."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from configs.celeryconfig import create_app
from db import queries
from db.ledger import Ledger
from db.migrate import open_ledger
from tests.db.conftest import batch  # noqa: F401 - a fixture
from worker.rescue import Rescuer

LEASE = 2.0


@pytest.fixture
def ledger(sqlite_url: str) -> Iterator[Ledger]:
    opened = open_ledger(sqlite_url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def rescuer(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rescuer:
    # What it sends is not what is asked here.
    monkeypatch.setattr("worker.rescue.outbox.send", lambda *_message, **_options: None)
    return Rescuer(create_app("memory://"), ledger, home=tmp_path, max_attempts=3, lease_seconds=LEASE)


def state(ledger: Ledger, job_id: int) -> str:
    return str(queries.find_job(ledger.engine, job_id).state.value)


def test_a_job_whose_lease_expires_is_put_back(
    rescuer: Rescuer, ledger: Ledger, batch: Callable[..., list[int]]  # noqa: F811
) -> None:  # fmt: skip
    [claim] = ledger.start_jobs(batch({}), "silent", 0.5)
    rescuer.look()
    assert state(ledger, claim.job_id) == "running"
    time.sleep(0.6)
    rescuer.look()
    assert state(ledger, claim.job_id) == "queued"


def test_a_worker_that_a_lock_kept_from_renewing_is_not_taken_for_silent(
    rescuer: Rescuer, ledger: Ledger, batch: Callable[..., list[int]]  # noqa: F811
) -> None:  # fmt: skip
    living, silent = ledger.start_jobs(batch({}, {}), "worker", LEASE)
    with ledger.engine.begin() as lock:
        time.sleep(1.25 * LEASE)
        look = threading.Thread(target=rescuer.look)
        look.start()
        time.sleep(0.2)
        lock.rollback()
        look.join()
    assert (state(ledger, living.job_id), state(ledger, silent.job_id)) == ("running", "running")
    ledger.renew_leases([living], LEASE)
    time.sleep(LEASE / 2)
    rescuer.look()
    assert (state(ledger, living.job_id), state(ledger, silent.job_id)) == ("running", "queued")
