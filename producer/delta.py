"""What an edited prompt file asks for that is not there yet, and how it differs from the file as it was before."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from configs.settings import Settings
from db.ledger import Ledger
from producer.asking import Asked, asked_images, narrow
from producer.holdings import Holdings, Shelf, find_holdings
from producer.snapshot import Before, keep, read_before
from producer.submit import Submission

KINDS = {
    "new": "was not asked for before",
    "changed": "stands where another row stood, or asks for more images",
    "unmade": "was asked for before, and nothing came of it or is left of it",
    "gone": "was asked for before, and is no more",
}
"""Of the rows of a file that was submitted before; those of the first three become jobs."""


class Edit(NamedTuple):
    """One row that is not as it was."""

    line: int
    """Of the file; of a row that is gone, of the file before."""
    note: str = ""
    before: int | None = None
    """The job of the row that stood there."""


@dataclass(kw_only=True)
class Delta:
    """The rows by `KINDS`, and what is to be made of them."""

    submission: Submission
    """Of what is not there yet."""
    asked: Sequence[Asked]
    """By the whole file."""
    edits: dict[str, list[Edit]]
    unchanged: int
    """Rows."""
    waiting: int
    """Images that are queued or being made."""
    repeated: int = 0
    """Images left out, since earlier rows ask for them."""
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.rows = self.unchanged + sum(len(found) for kind, found in self.edits.items() if kind != "gone")


def compare(submission: Submission, ledger: Ledger, settings: Settings, *, once: bool = False) -> Delta:
    """Find what of a checked file is not in the ledger. once: of rows that repeat others, the first alone is wanted."""
    asked = list(asked_images(submission))
    before = read_before(ledger.engine, settings.home, submission.batch.name)
    gone = _find_gone(before, asked)
    shelf = Shelf(settings.images_root, settings.ledger_url.startswith("sqlite"))
    lost_keys = (image.key for image, is_gone in zip(before, gone, strict=True) if is_gone)
    holdings = find_holdings(ledger.engine, asked, lost_keys, submission.contents, shelf)
    marks, repeated = _choose(asked, holdings, once=once)
    edits = _sort_edits(_Rows(before, gone, holdings.others), asked, marks, holdings)
    unchanged = len({image.line for image in asked}) - sum(len(edits[kind]) for kind in ("new", "changed", "unmade"))
    return Delta(
        submission=narrow(submission, marks),
        asked=asked,
        edits=edits,
        unchanged=unchanged,
        waiting=holdings.waiting,
        repeated=repeated,
    )


def remember(delta: Delta, ledger: Ledger, settings: Settings) -> None:
    """Keep what the file asks for now, once what was lacking is recorded."""
    keep(ledger.engine, settings.home, delta.submission.batch.name, delta.asked)


def _find_gone(before: Sequence[Before], asked: Iterable[Asked]) -> list[bool]:
    """For each image of the file before, whether no image of the file now answers to it."""
    left = Counter(image.key for image in asked)
    gone = []
    for image in before:
        gone.append(left[image.key] == 0)
        left[image.key] -= left[image.key] > 0
    return gone


def _choose(asked: Iterable[Asked], holdings: Holdings, *, once: bool) -> tuple[bytearray, int]:
    """A mark for each image, 1 where it is to be made; and how many are not only because they are repeated."""
    marks, repeated, seen, left = bytearray(), 0, set[bytes](), dict(holdings.there)
    for image in asked:
        there, again = left[image.key] > 0, once and image.key in seen
        left[image.key] -= there and not image.seeded
        seen.add(image.key)
        repeated += again and not there
        marks.append(not there and not again)
    return marks, repeated


class _Rows:
    """The rows of the file before that are gone, each to be found by the last image before it that is still there."""

    def __init__(self, before: Sequence[Before], gone: Sequence[bool], jobs: dict[bytes, int]) -> None:
        self.kept = {image.key for image, is_gone in zip(before, gone, strict=True) if not is_gone}
        self._after: dict[bytes | None, deque[Edit]] = {}
        anchor = None
        for line, group in groupby(zip(before, gone, strict=True), key=lambda pair: pair[0].line):
            images = list(group)
            if all(is_gone for _, is_gone in images):
                first = images[0][0]
                edit = Edit(line, before=first.job_id or jobs.get(first.key))
                self._after.setdefault(anchor, deque()).append(edit)
            anchor = next((image.key for image, is_gone in reversed(images) if not is_gone), anchor)

    def take(self, anchor: bytes | None) -> Edit | None:
        """The next one that stood behind an image."""
        behind = self._after.get(anchor)
        return behind.popleft() if behind else None

    def rest(self) -> list[Edit]:
        return sorted(edit for behind in self._after.values() for edit in behind)


def _sort_edits(rows: _Rows, asked: Iterable[Asked], marks: Iterable[int], holdings: Holdings) -> dict[str, list[Edit]]:
    edits: dict[str, list[Edit]] = {kind: [] for kind in KINDS}
    anchor = None
    for line, group in groupby(zip(asked, marks, strict=True), key=lambda pair: pair[0].line):
        images = list(group)
        if any(mark for _, mark in images):
            kind, edit = _judge(line, images, rows, anchor, holdings)
            edits[kind].append(edit)
        anchor = next((image.key for image, _ in reversed(images) if image.key in rows.kept), anchor)
    edits["gone"] = rows.rest()
    return edits


def _judge(
    line: int, images: Sequence[tuple[Asked, int]], rows: _Rows, anchor: bytes | None, holdings: Holdings
) -> tuple[str, Edit]:
    """The kind of a row that lacks images."""
    lacking = [image.key for image, mark in images if mark]
    if why := next(filter(None, map(holdings.spoilt.get, lacking)), ""):
        return "unmade", Edit(line, why)
    if len(lacking) < len(images):
        return "changed", Edit(line, f"{len(lacking)} of its {len(images)} images are lacking")
    if stood := rows.take(anchor):
        return "changed", Edit(line, before=stood.before)
    return "new", Edit(line)
