"""Opens the ledger's database with the settings that make it safe. Reasons: ``docs/architecture.md``."""

import os
import sqlite3
import types
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import NullPool

from db.errors import LedgerUnreachable, NetworkFileSystem

#: Releases of SQLite with the WAL-reset bug (https://sqlite.org/wal.html#walresetbug) end here.
SAFE_WAL = (3, 51, 3)
PRAGMAS = (
    "synchronous=full",
    "foreign_keys=on",
    "busy_timeout=30000",
    "journal_size_limit=67108864",
    "temp_store=memory",
    "trusted_schema=off",
)
#: Bytes of a SQLite file in memory, for each connection: for who looks through all of it, and for who does not.
CACHE, SMALL_CACHE = 32 * 2**20, 4 * 2**20
#: Of a connection to PostgreSQL: a dead server or way to it is noticed, and no transaction waits or idles for ever.
#: No statement here runs so long that compiling it would pay; a costly guess would add a tenth of a second to a page.
SERVER = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "promptmill",
    "options": "-c lock_timeout=30s -c idle_in_transaction_session_timeout=10min -c jit=off",
}
NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs"}


def open_database(url: str, cache: int = CACHE) -> Engine:
    """An engine on the ledger at ``url``; the folder of a SQLite file is made. The schema is `db.migrate`'s affair.

    cache: bytes of a SQLite file that each connection keeps in memory, at most.

    Raises:
        LedgerUnreachable: the URL is wrong or the database does not answer.
        NetworkFileSystem: a SQLite file would lie on a network file system.
    """
    parsed = _parse(url)
    engine = _open_sqlite(parsed, cache) if parsed.get_backend_name() == "sqlite" else _open_server(parsed)
    try:
        engine.connect().close()
    except OperationalError as error:
        shown = parsed.render_as_string(hide_password=True)
        raise LedgerUnreachable(f"The ledger at {shown} cannot be opened: {error.orig}.") from error
    return engine


def open_for_reading(url: str) -> Engine:
    """An engine on somebody's ledger, of which nothing is changed or made.

    Raises:
        LedgerUnreachable: as `open_database`; or there is no such file.
        NetworkFileSystem: as `open_database`.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite":
        return open_database(url)
    file = Path(parsed.database or "")
    if not file.is_file():
        raise LedgerUnreachable(f"There is no ledger at {file}: name a home, a SQLite file, or the URL of a database.")
    if (kind := file_system(file.parent)) in NETWORK_FILE_SYSTEMS:
        raise NetworkFileSystem(f"{file} lies on {kind}, where SQLite's locks do not hold: copy it to a local disk.")
    driver = sqlite_driver()
    place = f"{file.resolve().as_uri()}?mode=ro"
    engine = create_engine("sqlite://", module=driver, creator=partial(driver.connect, place, uri=True, timeout=30),
                           poolclass=NullPool)  # fmt: skip
    event.listen(engine, "connect", _leave_alone)
    event.listen(engine, "begin", _begin)
    try:
        with engine.connect().execution_options(readonly=True) as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except DatabaseError as error:
        raise LedgerUnreachable(f"{file} cannot be read as a ledger: {error.orig}.") from error
    return engine


def _leave_alone(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("query_only=on", "busy_timeout=30000", "trusted_schema=off", "temp_store=memory"):
        connection.execute(f"pragma {pragma}").close()


def sqlite_driver() -> types.ModuleType:
    """The newest SQLite at hand: the one `pysqlite3` carries, else Python's own."""
    try:
        import pysqlite3.dbapi2 as driver
    except ImportError:
        return sqlite3
    return driver  # type: ignore[no-any-return]


def journal_mode(driver: types.ModuleType) -> str:
    """Write-ahead logging, unless this SQLite has the WAL-reset bug."""
    return "wal" if driver.sqlite_version_info >= SAFE_WAL else "delete"


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect().import_dbapi()
        return parsed
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise LedgerUnreachable(
            "PROMPTMILL_DATABASE_URL is no database this installation can open: write sqlite:///FILE, "
            "or postgresql://USER@HOST/NAME after `pip install promptmill[postgres]`."
        ) from error


def _open_server(url: URL) -> Engine:
    is_postgresql = url.get_backend_name() == "postgresql"
    # What the URL says goes before.
    given = {name: value for name, value in SERVER.items() if is_postgresql and name not in url.query}
    return create_engine(url, pool_pre_ping=True, connect_args=given)


def _open_sqlite(url: URL, cache: int) -> Engine:
    file = Path(url.database or ":memory:")
    folder = file.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(file)
    except OSError as error:
        raise LedgerUnreachable(f"The ledger's folder {folder} cannot be made: {error.strerror}.") from error
    _refuse_network(folder)
    driver = sqlite_driver()
    engine = create_engine(url, module=driver, connect_args={"timeout": 30})
    event.listen(engine, "connect", partial(_prepare, mode=journal_mode(driver), cache=cache))
    event.listen(engine, "begin", _begin)
    return engine


def _make_private(file: Path) -> None:
    """Let the owner alone read a new ledger; SQLite gives its other files the same rights."""
    if file.name != ":memory:" and not file.exists():
        file.touch(mode=0o600)


def _prepare(connection: Any, _record: object, *, mode: str, cache: int) -> None:
    connection.isolation_level = None
    for pragma in (*PRAGMAS, f"cache_size=-{cache // 1024}", f"journal_mode={mode}"):
        connection.execute(f"pragma {pragma}").close()


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes fails at once when another has written meanwhile, whatever the
    # busy timeout: so a writer takes the lock when it begins.
    readonly = connection.get_execution_options().get("readonly")
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")


def _refuse_network(folder: Path) -> None:
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise NetworkFileSystem(
            f"The ledger cannot lie on {folder} ({kind}): set PROMPTMILL_HOME to a local disk, "
            "or PROMPTMILL_DATABASE_URL to a PostgreSQL database."
        )


def file_system(folder: Path) -> str:
    """The type of the file system that holds ``folder``; empty where the system does not say."""
    best, kind = "", ""
    with suppress(OSError):
        target = os.path.realpath(folder)
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            _, mount, fs, *_ = line.split()
            inside = target == mount or target.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, fs
    return kind
