"""A copy of a SQLite ledger as a file, taken while others write."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from db.errors import BackupRefused
from db.session import sqlite_driver


def back_up(engine: Engine, file: Path) -> None:
    """Write the ledger as it is now to a new file, which appears when it is whole.

    Raises:
        BackupRefused: the ledger is in PostgreSQL, the file exists or cannot be written.
    """
    if engine.dialect.name != "sqlite":
        raise BackupRefused("This ledger is in PostgreSQL: back it up with pg_dump, as docs/operations.md says.")
    if file.exists():
        raise BackupRefused(f"{file} exists: name a new file.")
    part = file.with_name(f".{file.name}.part")
    try:
        part.touch(mode=0o600)
        _copy(engine, part)
        os.link(part, file)
    except (OSError, sqlite_driver().Error, sqlite3.Error) as error:
        raise BackupRefused(f"The ledger cannot be backed up in {file}: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _copy(engine: Engine, file: Path) -> None:
    source = engine.raw_connection()
    try:
        with closing(sqlite_driver().connect(str(file))) as copy:
            source.driver_connection.backup(copy)  # type: ignore[union-attr]
            # A file by itself: its log would lie beside it.
            copy.execute("PRAGMA journal_mode=delete")
    finally:
        source.close()
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
