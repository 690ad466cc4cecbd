"""Migrations and models describe the same tables."""

import multiprocessing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from db import migrate
from db.errors import LedgerTooNew, LedgerUnreachable, NetworkFileSystem
from db.ledger import Ledger
from db.models import METADATA
from db.session import journal_mode, open_database, sqlite_driver


def test_migrations_make_the_tables_of_the_models(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_the_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(migrate.MIGRATIONS)).get_current_head() == migrate.HEAD


def test_a_second_opening_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    for _ in range(2):
        assert migrate.revision(migrate.open_ledger(url).engine) == migrate.HEAD


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


def test_the_write_ahead_log_is_used_with_a_safe_sqlite(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    assert mode == journal_mode(sqlite_driver())
