"""Which faults of a database are over when one waits."""

from sqlalchemy.exc import DBAPIError, OperationalError

#: PostgreSQL's: a transaction lost to another, waited too long for a lock, or met a server that starts or ends.
PASSING = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300", "25P03"}


def passes(error: DBAPIError) -> bool:
    """Whether the same transaction may do in a while: nothing is wrong with it."""
    if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in PASSING:
        return True
    return isinstance(error, OperationalError) and _waits(error)


def _waits(error: OperationalError) -> bool:
    """A lock of SQLite's, or a PostgreSQL that does not take the connection; this has no code then."""
    code = getattr(error.orig, "sqlstate", "none of PostgreSQL's")
    return code is None or "locked" in str(error)
