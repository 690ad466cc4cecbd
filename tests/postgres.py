"""A real PostgreSQL for tests: a server of their own on a socket, which forgets everything when it ends."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from db.migrate import open_ledger
from producer.child import start_child

#: Where Debian has its programs, which are not on the PATH.
DEBIAN = Path("/usr/lib/postgresql")
#: What would keep it through a loss of power; only the server itself dies here.
FORGETFUL = ("fsync=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=32MB")
USER = "promptmill"
TEMPLATE = "template_ledger"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None where it is not installed."""
    folders = sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    if found := shutil.which("pg_config"):
        told = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=True)
        folders.insert(0, Path(told.stdout.strip()))
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class Server:
    """A server that runs within the block. It cannot run as root, and is somebody else's then.

    What it is told is kept in ``data`` for the next time, if that is given.
    """

    def __init__(self, programs: Path, settings: Sequence[str] = FORGETFUL, data: Path | None = None) -> None:
        self._programs, self._settings = programs, settings
        # Short: a socket's name may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._data, self._kept = data or self.folder / "data", data is not None
        switch = ("--reuid=nobody", "--clear-groups", "--pdeathsig=TERM")
        self._prefix = [str(shutil.which("setpriv")), *switch] if os.getuid() == 0 else []
        if self._prefix:
            shutil.chown(self.folder, "nobody")
        self._databases = 0

    def __enter__(self) -> "Server":
        if not (self._data / "PG_VERSION").exists():
            self._make()
        self.start()
        return self

    def _make(self) -> None:
        self._data.mkdir(mode=0o700)
        if self._prefix:
            shutil.chown(self._data, "nobody")
        options = ("--username", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        command = [*self._prefix, self._programs / "initdb", "-D", self._data, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(signal.SIGINT if self._kept else signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for setting in ("listen_addresses=", *self._settings) for word in ("-c", setting)]
        command = ["-D", str(self._data), "-k", str(self.folder), *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = start_child([*self._prefix, str(self._programs / "postgres"), *command], log=log)
        ready = [self._programs / "pg_isready", "--quiet", "--host", self.folder]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()

    def stop(self, kind: signal.Signals = signal.SIGINT) -> None:
        """End all connections and the server: in order, or with SIGQUIT as a crash would."""
        self._process.send_signal(kind)
        self._process.wait(30)

    def url(self, database: str) -> str:
        place = URL.create("postgresql+psycopg", USER, database=database, query={"host": str(self.folder)})
        return place.render_as_string(hide_password=False)

    def database(self, name: str) -> str:
        """The URL of the database of that name, which is made where there is none."""
        with self._administration.connect() as connection:
            known = connection.scalars(text("SELECT datname FROM pg_database")).all()
        if name not in known:
            self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def empty(self) -> str:
        """The URL of a database without tables."""
        return self._create("template1")

    def ledger(self) -> str:
        """The URL of an empty ledger."""
        return self._create(self._template)

    def drop(self, url: str) -> None:
        self._execute(f"DROP DATABASE {url.partition('?')[0].rpartition('/')[2]} WITH (FORCE)")

    @cached_property
    def _template(self) -> str:
        """A ledger to copy: migrations take longer than a copy."""
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        open_ledger(self.url(TEMPLATE)).engine.dispose()
        return TEMPLATE

    def _create(self, template: str) -> str:
        self._databases += 1
        name = f"test_{self._databases}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def _execute(self, statement: str) -> None:
        with self._administration.connect() as connection:
            connection.execute(text(statement))

    @cached_property
    def _administration(self) -> Engine:
        return create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
