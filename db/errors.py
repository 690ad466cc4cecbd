"""What can go wrong with the ledger.

LedgerError
├── LedgerUnreachable    wait and try again: the database cannot be opened or stays locked
├── LedgerTooNew         upgrade Promptmill: a newer version has migrated this ledger
├── LedgerTooOld         upgrade the other ledger: it is only read
├── LedgerNotEmpty       name an empty ledger: this one would be mixed with another
├── LedgerInUse          stop the workers first
├── CopyFailed           try again: nothing was kept
├── BackupRefused        name another file, or use PostgreSQL's own tool
├── SqliteUnfit          install another SQLite: this one cannot search text
├── NetworkFileSystem    move the ledger, or use PostgreSQL
└── NotInLedger          correct the call: no such batch or job
"""


class LedgerError(Exception):
    """The ledger refused; the message says what to do."""


class LedgerUnreachable(LedgerError):
    """Raised when the database cannot be opened or stays locked."""


class LedgerTooNew(LedgerError):
    """Raised when the ledger's schema is one this version does not know."""


class LedgerTooOld(LedgerError):
    """Raised when a ledger that is only read has tables of an older version, or none."""


class NetworkFileSystem(LedgerError):
    """Raised when SQLite would lie on a network file system, where its locks do not hold."""


class SqliteUnfit(LedgerError):
    """Raised when SQLite was built without what the ledger needs."""


class NotInLedger(LedgerError):
    """Raised when a batch, job or image is asked for that was never recorded."""


class LedgerNotEmpty(LedgerError):
    """Raised when a ledger would be copied over another one."""


class LedgerInUse(LedgerError):
    """Raised when workers are alive that would change what is being copied."""


class CopyFailed(LedgerError):
    """Raised when what was copied reads otherwise."""


class BackupRefused(LedgerError):
    """Raised when a ledger cannot be backed up as it was asked."""
