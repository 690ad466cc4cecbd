"""A ledger in another place is the same ledger."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import select

from db import copying
from db.backup import back_up
from db.copying import copy_ledger
from db.errors import BackupRefused, CopyFailed, LedgerInUse, LedgerNotEmpty
from db.ledger import Ledger
from db.migrate import open_ledger
from db.models import BATCHES
from db.reading import read
from tests.db.conftest import IMAGE
from tests.postgres import Server

Batch = Callable[..., list[int]]
TEXT = strategies.text(strategies.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JOB = strategies.fixed_dictionaries(
    {
        "prompt": TEXT,
        "seed": strategies.integers(0, 2**63 - 1),
        "scale": strategies.floats(0, 100),
        "tags": strategies.dictionaries(TEXT, TEXT, max_size=2),
        "noise": strategies.none() | strategies.just({"run": [1, 2]}),
        "content_key": strategies.none() | strategies.binary(min_size=16, max_size=16),
    }
)


def everything(ledger: Ledger) -> list[object]:
    return [read(ledger.engine, select(table).order_by(*table.primary_key)) for table in copying.TABLES]


@given(jobs=strategies.lists(JOB, min_size=1, max_size=5))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.postgresql
def test_there_and_back_is_the_same(postgresql: Server, tmp_path_factory: pytest.TempPathFactory, jobs: list) -> None:  # type: ignore[type-arg]
    folder, url = tmp_path_factory.mktemp("copies"), postgresql.ledger()
    here, there, back = (
        open_ledger(u) for u in (f"sqlite:///{folder}/a.sqlite3", url, f"sqlite:///{folder}/b.sqlite3")
    )
    fill(here, jobs)
    copy_ledger(here.engine, there.engine)
    copy_ledger(there.engine, back.engine)
    assert everything(back) == everything(there) == everything(here)
    fill(there, jobs)
    for ledger in (here, there, back):
        ledger.engine.dispose()
    postgresql.drop(url)


def fill(ledger: Ledger, jobs: list) -> None:  # type: ignore[type-arg]
    """A batch of those jobs, of which one has its image and one has failed; all of it is told by the ids."""
    from tests.db.conftest import batch

    ids = batch.__wrapped__(ledger)(*jobs)  # type: ignore[attr-defined]
    claims = ledger.start_jobs(ids[:2], "w", 60)
    ledger.finish_job(claims[0], {**IMAGE, "path": f"{ids[0]}.png"})
    for claim in claims[1:]:
        ledger.fail_job(claim, "invalid", "Es geht nicht.")
    ledger.hold_jobs(1, "demo", "checkpoint", "It is gone.")


def test_a_ledger_with_batches_takes_no_copy(ledger: Ledger, batch: Batch, tmp_path: Path) -> None:
    batch({})
    other = open_ledger(f"sqlite:///{tmp_path}/other.sqlite3")
    with pytest.raises(LedgerNotEmpty, match="name a new one"):
        copy_ledger(other.engine, ledger.engine)


def test_a_copy_that_reads_otherwise_is_not_kept(
    ledger: Ledger, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch({})
    other = open_ledger(f"sqlite:///{tmp_path}/other.sqlite3")
    numbers = iter(range(100))
    monkeypatch.setattr(copying, "_count", lambda pages: copying.Account(len(list(pages)), str(next(numbers))))
    with pytest.raises(CopyFailed, match="nothing was kept"):
        copy_ledger(ledger.engine, other.engine)
    assert not read(other.engine, select(BATCHES))


def test_a_ledger_with_living_workers_is_not_copied(ledger: Ledger) -> None:
    ledger.report_worker("w", host="h", pid=1)
    with pytest.raises(LedgerInUse, match="stop them"):
        copying.refuse_workers(ledger.engine)


def test_a_backup_is_the_ledger(sqlite_url: str, tmp_path: Path) -> None:
    ledger = open_ledger(sqlite_url)
    fill(ledger, [{}, {}])
    back_up(ledger.engine, tmp_path / "backup.sqlite3")
    assert everything(open_ledger(f"sqlite:///{tmp_path}/backup.sqlite3")) == everything(ledger)
    with pytest.raises(BackupRefused, match="exists"):
        back_up(ledger.engine, tmp_path / "backup.sqlite3")
