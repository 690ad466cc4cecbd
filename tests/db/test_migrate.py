"""Migrations and models describe the same tables."""

import multiprocessing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert

from db import migrate, queries
from db.errors import LedgerTooNew, LedgerUnreachable, NetworkFileSystem, SqliteUnfit
from db.ledger import Ledger
from db.models import BATCHES, IMAGES, JOBS, METADATA
from db.session import CACHE, SMALL_CACHE, journal_mode, open_database, sqlite_driver
from tests.db.conftest import IMAGE, job

FIRST_BATCH = {
    "id": 1, "name": "cats.csv", "folder": "0001-cats", "source_sha256": "0" * 64, "image_format": "png",
    "priority": 5, "total": 1, "created_at": 1.0, "submitted_at": 1.0,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection", "ignore:autogenerate skipping metadata-specified")
def test_migrations_make_the_tables_of_the_models(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        # The index of words is the database's own kind of thing.
        ours = {"include_name": lambda name, *_: not (name or "").startswith("job_text")}
        context = MigrationContext.configure(connection, opts={"compare_type": True, **ours})
        assert compare_metadata(context, METADATA) == []


def test_the_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(migrate.MIGRATIONS)).get_current_head() == migrate.HEAD


def test_a_second_opening_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    for _ in range(2):
        assert migrate.revision(migrate.open_ledger(url).engine) == migrate.HEAD


def record_as_the_first_version(ledger: Ledger) -> None:
    """A finished job, by statements that know the tables of revision 0001."""
    with ledger.engine.begin() as connection:
        connection.execute(insert(BATCHES).values(FIRST_BATCH))
        ended = {"state": "succeeded", "attempts": 1, "fence": 1, "finished_at": 2.0}
        connection.execute(insert(JOBS).values({**job(1), **ended}))
        connection.execute(insert(IMAGES).values({**IMAGE, "job_id": 1, "created_at": 2.0}))


def test_a_ledger_of_the_first_version_is_upgraded_with_its_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    old = Ledger(open_database(url))
    migrate.upgrade(old.engine, "0001")
    record_as_the_first_version(old)
    found = queries.find_job(migrate.open_ledger(url).engine, 1)
    assert (found.image_path, found.image_batch_rows) == (IMAGE["path"], IMAGE["batch_rows"])
    assert (found.image_vae_batch, found.image_exact, found.image_flagged) == (None, False, None)


def test_a_worker_of_the_first_version_records_in_an_upgraded_ledger(ledger: Ledger) -> None:
    record_as_the_first_version(ledger)
    assert queries.find_job(ledger.engine, 1).image_exact is False


def test_an_old_batch_gets_a_name_of_its_own_in_the_upgrade(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    old = Ledger(open_database(url))
    migrate.upgrade(old.engine, "0004")
    with old.engine.begin() as connection:
        rows = [FIRST_BATCH, {**FIRST_BATCH, "id": 2}]
        connection.execute(insert(BATCHES).values(rows))
    names = {queries.find_batch(migrate.open_ledger(url).engine, str(number)).uid for number in (1, 2)}
    assert {len(name) for name in names} == {32}
    assert len(names) == 2


def _open(url: str) -> None:
    migrate.open_ledger(url)


def test_processes_that_open_a_new_ledger_at_once_all_succeed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    processes = [multiprocessing.get_context("spawn").Process(target=_open, args=(url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    with migrate.open_ledger(url).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerTooNew, match="9999"):
        migrate.open_ledger(url)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////proc/nowhere/ledger.sqlite3", "postgresql+nothing://x/y"])
def test_a_database_that_cannot_be_opened_is_said_in_a_sentence(url: str) -> None:
    with pytest.raises(LedgerUnreachable):
        open_database(url)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.session.file_system", lambda _: "nfs4")
    with pytest.raises(NetworkFileSystem, match="nfs4"):
        open_database(f"sqlite:///{tmp_path}/ledger.sqlite3")


def test_the_write_ahead_log_is_used_with_a_safe_sqlite(tmp_path: Path) -> None:
    engine = migrate.open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3").engine
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    assert mode == journal_mode(sqlite_driver())


def test_a_sqlite_that_cannot_search_text_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = ScriptDirectory(str(migrate.MIGRATIONS))
    migration = scripts.get_revision("0006").module
    migration.TABLE = migration.TABLE.replace("fts5(", "fts5_of_nowhere(")
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda _: scripts)
    with pytest.raises(SqliteUnfit, match="pip install pysqlite3"):
        migrate.open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")


@pytest.mark.parametrize("cache", [SMALL_CACHE, CACHE])
def test_a_ledger_keeps_no_more_in_memory_than_it_may(sqlite_url: str, cache: int) -> None:
    ledger = migrate.open_ledger(sqlite_url, cache)
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("pragma cache_size").scalar_one() == -cache // 1024
    ledger.engine.dispose()
