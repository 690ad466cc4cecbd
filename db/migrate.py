"""Brings a ledger to the schema this version works with."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from db.errors import LedgerTooNew, LedgerUnreachable
from db.ledger import Ledger
from db.session import CACHE, open_database

MIGRATIONS = Path(__file__).with_name("migrations")
#: The newest revision. A constant, since asking Alembic for it costs more than the commands that need it.
HEAD = "0009"
#: Names the lock of an upgrade among all of a database.
TURN = int.from_bytes(b"promptml", "big") >> 1


def open_ledger(url: str, cache: int = CACHE) -> Ledger:
    """Open the ledger at ``url``, making or upgrading its tables where needed.

    Raises:
        LedgerUnreachable, NetworkFileSystem: see `db.session.open_database`.
        LedgerTooNew: a newer version of Promptmill has been here.
    """
    engine = open_database(url, cache)
    if revision(engine) != HEAD:
        upgrade(engine)
    return Ledger(engine)


def revision(engine: Engine) -> str | None:
    """The schema revision the ledger is at; None for an empty database."""
    with engine.connect().execution_options(readonly=True) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found


def upgrade(engine: Engine, target: str = "head") -> None:
    """Apply the missing migrations up to ``target``, in one transaction: of two processes the second one waits."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            _take_turn(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, target)
    except CommandError as error:
        raise LedgerTooNew(
            f"The ledger is at revision {revision(engine)}, newer than this Promptmill knows ({HEAD}): upgrade it."
        ) from error
    except OperationalError as error:
        raise LedgerUnreachable(f"The ledger cannot be upgraded: {error.orig}.") from error


def _take_turn(connection: Connection) -> None:
    """Let no other process upgrade the ledger meanwhile; SQLite has begun with a lock."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": TURN})
