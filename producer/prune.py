"""Retention: takes old jobs out of the ledger, and their images off the disk.

The rows go first. A crash in between leaves files without a job, which `promptmill fsck` names as orphans; a batch
goes last, since it is by the batches that fsck finds their folders.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row

from db.blocks import ENDED
from db.pruning import remove_empty_batches, remove_jobs
from db.reading import PAGE
from producer.thumbnails import Thumbnails


@dataclass
class Toll:
    """What was taken, or would be."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0
    #: Queued or running, and so left alone.
    spared: int = 0
    batches: int = 0
    #: Batches it was taken from.
    touched: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Pruning:
    """Jobs to be taken away."""

    engine: Engine
    #: The images' folder.
    root: Path
    #: Whether the files stay, with nobody to know them.
    keep_files: bool = False
    #: What was kept of the images to be shown, and goes with them.
    thumbnails: Thumbnails | None = None

    def weigh(self, rows: Iterable[Row[Any]]) -> Toll:
        """What `take` would take."""
        toll = Toll()
        for row in rows:
            self._count(toll, row)
        return toll

    def take(self, rows: Iterable[Row[Any]]) -> Toll:
        """Take what has ended of the jobs, page by page; what somebody queues again meanwhile is spared."""
        toll, rest = Toll(), iter(rows)
        while page := list(islice(rest, PAGE)):
            gone = remove_jobs(self.engine, [row.id for row in page])
            toll.spared += len(page) - len(gone)
            toll.touched.update(gone.values())
            for row in page:
                if row.id in gone:
                    self._count(toll, row)
                    self._remove_file(row)
                    if self.thumbnails:
                        self.thumbnails.drop(row)
        toll.batches = sum(remove_empty_batches(self.engine, part) for part in _parts(toll.touched))
        return toll

    def _count(self, toll: Toll, row: Row[Any]) -> None:
        if row.state not in ENDED:
            toll.spared += 1
            return
        toll.jobs += 1
        if (file := self._file(row)) and not self.keep_files:
            with suppress(OSError):
                toll.bytes += file.stat().st_size
                toll.files += 1

    def _remove_file(self, row: Row[Any]) -> None:
        file = None if self.keep_files else self._file(row)
        if file:
            file.unlink(missing_ok=True)
            # Its batch's folder, when it was the last one there.
            with suppress(OSError):
                file.parent.rmdir()

    def _file(self, row: Row[Any]) -> Path | None:
        """Where an image is; None where there is none, or its path leads out of the images' folder."""
        root = self.root.resolve()
        file = root / row.image_path if row.image_path else None
        return file if file and file.parent.resolve().parent == root else None


def _parts(ids: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(ids)
    while part := list(islice(rest, PAGE)):
        yield part
