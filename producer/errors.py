"""What can go wrong on the producer's side, named by what happens next.

ProducerError
├── UsageError              correct the call or the file: nothing was queued (exit code 2)
│   ├── AccessRefused
│   ├── DiskTooSmall
│   ├── InvalidPromptFile
│   ├── InvalidTemplate
│   ├── NobodyNotified
│   ├── NoOtherLedger
│   ├── NoRecord
│   ├── NoSuchModel
│   ├── NoSuchGpu
│   ├── NoSuchTag
│   ├── PictureUnreadable
│   ├── RerunRefused
│   ├── RunRefused
│   └── SheetRefused
├── OutdirUnusable          make room or give rights: the images are in the images folder
├── ExportRefused           name another place, or make room
├── ExtraMissing            install what is optional
├── ImportRefused           make room or give rights: nothing was imported
├── NoticeRefused           correct the address
├── ReportRefused           name another place
├── MergeRefused            make room or give rights: merge again, and it goes on
├── ModelRefused            get another file
├── RemoteRefused           do as the other machine says
├── RequestRepeated         draw another key
├── ServerUnreachable       see that it runs there, and try again
├── QueueUnreachable        wait and try again: the batch is recorded
├── QueueInUse              stop the other one: it has this home's queue
├── QueueNotStarted         read the queue server's log
├── ServerMissing           install a server, or name one that runs
└── WorkerKeepsDying        read the workers' log
"""

from collections.abc import Sequence

from producer.problems import Problem


class ProducerError(Exception):
    """Root of everything the producer raises on purpose; the message says what the user can do."""

    exit_code = 1


class UsageError(ProducerError):
    """What was asked for cannot be done as it stands."""

    exit_code = 2


class InvalidPromptFile(UsageError):
    """Raised when rows of a prompt file are wrong; ``problems`` holds the first of all ``total``."""

    def __init__(self, problems: Sequence[Problem], total: int) -> None:
        super().__init__(problems, total)
        self.problems = problems
        self.total = total

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if (hidden := self.total - len(lines)) > 0:
            lines.append(f"{self.problems[0].file}: {hidden} more {'problem' if hidden == 1 else 'problems'}")
        return "\n".join(lines)


class InvalidTemplate(UsageError):
    """Raised when a template, a wildcard or a style is not what it can be; ``column`` is what gave it."""

    def __init__(self, message: str, column: str = "prompt") -> None:
        super().__init__(message)
        self.column = column


class AccessRefused(UsageError):
    """Raised when pages would be served to strangers, or a password or token is none."""


class ImportRefused(ProducerError):
    """Raised when files cannot be copied to the images; nothing of them is recorded."""


class DiskTooSmall(UsageError):
    """Raised when the images of a file do not fit on the disk, and nobody is there to say that it be tried."""


class PictureUnreadable(UsageError):
    """Raised when a file is no picture, or one that would fill the memory."""


class NoSuchGpu(UsageError):
    """Raised when workers are asked for where there is no card for them."""


class NoSuchModel(UsageError):
    """Raised when a model's name is unknown, taken, or none."""


class MergeRefused(ProducerError):
    """Raised when another ledger's batch cannot be brought here; those before it stay."""


class ModelRefused(ProducerError):
    """Raised when a file is no checkpoint that can be rendered, or cannot be converted."""


class NoSuchTag(UsageError):
    """Raised when a batch has no tag of that name."""


class NobodyNotified(UsageError):
    """Raised when there is no address to notify."""


class NoOtherLedger(UsageError):
    """Raised when there is no ledger, or there are no images, where another one's should be."""


class NoRecord(UsageError):
    """Raised when an image does not say what made it."""


class RerunRefused(UsageError):
    """Raised when a job cannot be made again with what is set."""


class RunRefused(UsageError):
    """Raised when the flags of an original script ask for what it, or we, cannot do."""


class SheetRefused(UsageError):
    """Raised when pictures cannot be put on a page."""


class OutdirUnusable(ProducerError):
    """Raised when finished images cannot be put where they were asked for."""


class ExtraMissing(ProducerError):
    """Raised when a command needs packages that are installed on request only."""


class ExportRefused(ProducerError):
    """Raised when an export cannot be written where it was asked for."""


class NoticeRefused(ProducerError):
    """Raised when an address did not take a message."""


class ReportRefused(ProducerError):
    """Raised when a report cannot be written where it was asked for."""


class RemoteRefused(ProducerError):
    """Raised when another machine's Promptmill does not do what it was asked; the sentence is its own."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ServerUnreachable(ProducerError):
    """Raised when another machine's Promptmill does not answer."""


class RequestRepeated(ProducerError):
    """Raised when a request has the key of another one that asked for something else."""


class QueueUnreachable(ProducerError):
    """Raised when Redis does not answer or refuses."""


class QueueInUse(ProducerError):
    """Raised when another process has the embedded queue of this home."""


class QueueNotStarted(ProducerError):
    """Raised when the embedded queue's server does not come up."""


class ServerMissing(ProducerError):
    """Raised when there is no server for the embedded queue on this machine."""


class WorkerKeepsDying(ProducerError):
    """Raised when a worker ends again and again."""


#: Libraries whose errors are told in one sentence, by the package they come from: importing them costs time.
FOREIGN = {"sqlalchemy": "The ledger", "redis": "The queue", "kombu": "The queue"}


def tell_foreign(error: Exception) -> str:
    """What a library's error means to people; empty where it can be anything."""
    what = FOREIGN.get(type(error).__module__.partition(".")[0])
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    return f"{what} failed: {reason}. `promptmill doctor` looks for the reason." if what else ""


def tell_file(error: Exception) -> str:
    """What a file or folder means that cannot be used; empty where the error names none."""
    if not isinstance(error, OSError) or error.filename is None:
        return ""
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename} cannot be used ({reason}): see its rights and its disk, then try again."
