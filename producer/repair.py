"""Mends what an inspection finds, as far as nothing of worth is thrown away for it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from db.claim import Claim
from db.ledger import Ledger
from db.rescue import rescue_stalled
from producer.errors import QueueUnreachable
from producer.fsck import Finding
from producer.merging import discard
from producer.queue import Queue

#: Findings mended together.
TOGETHER = 500

#: What can be done about each kind of finding, and what was done; the others are only told.
REMEDIES = {
    "missing": ("makes it again", "queued again"),
    "truncated": ("makes it again", "queued again"),
    "altered": ("makes it again", "queued again"),
    "unrecorded": ("makes it again", "queued again"),
    "untimely": ("takes the image out of the ledger", "taken out"),
    "stalled": ("puts it back", "put back"),
    "unsent": ("sends it again", "sent again"),
    "unopened": ("discards it", "discarded"),
    "temporary": ("removes it", "removed"),
}
#: What the user can do about those.
ADVICE = {
    "orphan": "look at it, and move or delete it yourself",
    "miscounted": "submit the prompt file again",
}


def advice(kind: str, mended: int) -> str:
    """What to do about findings of a kind, or what was done about so many of them."""
    if kind in ADVICE:
        return ADVICE[kind]
    remedy, outcome = REMEDIES[kind]
    return f"{mended:,} {outcome}" if mended else f"--repair {remedy}"


@dataclass(kw_only=True)
class Repair:
    """Takes findings one by one; `finish` mends what still waits."""

    ledger: Ledger
    #: Where dead workers left their black boxes.
    home: Path
    root: Path
    queue: Queue | None
    chunk_size: int
    max_attempts: int
    #: How many of each kind were mended.
    mended: Counter[str] = field(default_factory=Counter)
    #: Why jobs were not sent, if they were not; they are queued in the ledger.
    unsent: str = ""
    _waiting: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))

    def take(self, finding: Finding) -> None:
        waiting = self._waiting[finding.kind]
        waiting.append(finding)
        if len(waiting) >= TOGETHER:
            self._mend(finding.kind)

    def finish(self) -> None:
        for kind in list(self._waiting):
            self._mend(kind)

    def _mend(self, kind: str) -> None:
        found = self._waiting.pop(kind, [])
        if kind in REMEDIES:
            mend = {
                "stalled": self._rescue,
                "unsent": self._send,
                "untimely": self._forget,
                "unopened": self._discard,
                "temporary": self._remove,
            }.get(kind, self._remake)
            self.mended[kind] += mend(found)

    def _remake(self, found: Sequence[Finding]) -> int:
        by_id = {finding.job_id: finding for finding in found}
        remade = self.ledger.remake_jobs(_claims(found))
        self._send([by_id[job_id] for job_id in remade])
        return len(remade)

    def _forget(self, found: Sequence[Finding]) -> int:
        return self.ledger.forget_images(_claims(found))

    def _rescue(self, found: Sequence[Finding]) -> int:
        rescued = rescue_stalled(self.ledger, self.home, self.max_attempts)
        self._reach(partial(Queue.send_rescued, job_ids=rescued))
        return len(found)

    def _discard(self, found: Sequence[Finding]) -> int:
        for finding in found:
            discard(self.ledger, self.root, finding.batch_id)
        return len(found)

    def _remove(self, found: Sequence[Finding]) -> int:
        for finding in found:
            with suppress(FileNotFoundError):
                (self.root / finding.path).unlink()
        return len(found)

    def _send(self, found: Sequence[Finding]) -> int:
        by_priority: dict[int, list[int]] = defaultdict(list)
        for finding in found:
            by_priority[finding.priority].append(finding.job_id or 0)
        for priority, ids in by_priority.items():
            chunks = [ids[i : i + self.chunk_size] for i in range(0, len(ids), self.chunk_size)]
            self._reach(partial(Queue.send, chunks=chunks, priority=priority))
        return len(found)

    def _reach(self, send: Callable[[Queue], object]) -> None:
        if self.queue is None:
            self.unsent = "no queue runs"
            return
        try:
            send(self.queue)
        except QueueUnreachable as error:
            self.unsent = str(error)


def _claims(found: Sequence[Finding]) -> list[Claim]:
    """The jobs as they were when they were looked at: one that changed since is left alone."""
    return [Claim(finding.job_id, finding.fence) for finding in found if finding.job_id is not None]
