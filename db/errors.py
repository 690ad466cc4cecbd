"""What can go wrong with the ledger.

LedgerError
├── LedgerUnreachable    wait and try again: the database cannot be opened or stays locked
├── LedgerTooNew         upgrade Promptmill: a newer version has migrated this ledger
├── NetworkFileSystem    move the ledger, or use PostgreSQL
└── NotInLedger          correct the call: no such batch or job
"""


class LedgerError(Exception):
    """The ledger refused; the message says what to do."""


class LedgerUnreachable(LedgerError):
    """Raised when the database cannot be opened or stays locked."""


class LedgerTooNew(LedgerError):
    """Raised when the ledger's schema is one this version does not know."""


class NetworkFileSystem(LedgerError):
    """Raised when SQLite would lie on a network file system, where its locks do not hold."""


class NotInLedger(LedgerError):
    """Raised when a batch, job or image is asked for that was never recorded."""
