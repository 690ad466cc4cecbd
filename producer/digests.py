"""Digests of files' contents, each read once: they are kept in the home, by path, size and times."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from configs.weight_files import hash_files
from db.session import sqlite_driver

FRESH = 2.0
"""Seconds: within them a file can change again without its times telling."""


class Digests:
    """A file of them, shared by all processes. Where it cannot be used, files are read each time.

    The time of a file's last change of any kind counts too: a copy that keeps its old date is seen.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def of(self, files: Sequence[Path]) -> str:
        """SHA-256 over the files' contents, one after the other. Raises OSError."""
        state, changed = _state_of(files)
        if known := self._read(files, state):
            return known
        digest = hash_files(files)
        if changed < time.time() - FRESH:
            self._execute("INSERT OR REPLACE INTO digest VALUES (?, ?, ?)", _name(files), state, digest)
        return digest

    def knows(self, files: Sequence[Path]) -> bool:
        """Whether it is known without reading them. Raises OSError."""
        return self._read(files, _state_of(files)[0]) is not None

    def _read(self, files: Sequence[Path], state: str) -> str | None:
        found = self._execute("SELECT sha256 FROM digest WHERE files = ? AND state = ?", _name(files), state)
        return str(found[0][0]) if found else None

    def _execute(self, statement: str, *values: str) -> list[tuple[str]]:
        with suppress(sqlite3.Error, sqlite_driver().Error, OSError):
            self._connection = self._connection or self._open()
            return self._connection.execute(statement, values).fetchall()
        return []

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        connection: sqlite3.Connection = sqlite_driver().connect(str(self._path), isolation_level=None, timeout=5)
        # What is lost with the power is read again.
        connection.execute("PRAGMA synchronous=off")
        connection.execute("CREATE TABLE IF NOT EXISTS digest (files TEXT PRIMARY KEY, state TEXT, sha256 TEXT)")
        return connection


def _name(files: Sequence[Path]) -> str:
    return "\n".join(map(str, files))


def _state_of(files: Sequence[Path]) -> tuple[str, float]:
    """What tells that none of the files has changed, and when one last did."""
    stats = [file.stat() for file in files]
    state = " ".join(f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}" for stat in stats)
    return state, max(max(stat.st_mtime, stat.st_ctime) for stat in stats)
