"""Compares ledger, disk and queue with each other, and tells every difference.

Jobs are read page by page in order of id, folders entry by entry, so memory does not grow with the ledger. Work goes on
meanwhile: what a worker, a submit or a sending that is under way leaves for a moment is no difference.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, Row

from db import inspection
from db.models import JobState
from producer.id_set import IdSet
from producer.picture import find_flaw
from producer.queue import Queue

#: Every kind of difference, and what it is.
KINDS = {
    "missing": "the file of an image is not there",
    "truncated": "the file of an image ends too early, or is no picture",
    "altered": "the file of an image is not what was made",
    "unrecorded": "a job succeeded and has no image in the ledger",
    "untimely": "a job has an image and has not succeeded",
    "stalled": "a job runs, and its worker has fallen silent",
    "unsent": "a job is queued and no message speaks of it",
    "unopened": "a batch was never recorded to its end",
    "miscounted": "a batch has not as many jobs as its prompt file asked for",
    "orphan": "a file belongs to no image",
    "temporary": "a file was not written to its end",
}
IMAGE = r"(?P<job>\d{8,18})-\d{1,19}\.(?:png|jpg|webp)"
TEMPORARY = re.compile(rf"\.{IMAGE}\.[0-9a-f]{{8}}\.part", re.ASCII)
OWNED = re.compile(rf"{IMAGE}|{TEMPORARY.pattern}".replace("?P<job>", ""), re.ASCII)
#: A file in a folder directly in the root, or such a folder; the ledger may be anybody's.
PLACE = re.compile(r"([0-9A-Za-z][\w-]*)/((?:[0-9A-Za-z][\w.-]*)?)", re.ASCII)
#: Seconds between two looks at the queue: a message is in no list while a worker takes it.
PAUSE = 1.0


class Finding(NamedTuple):
    """One difference. ``fence`` and ``priority`` are the job's; ``path`` is below the images' folder."""

    kind: str
    batch_id: int
    job_id: int | None = None
    fence: int = 0
    priority: int = 5
    path: str = ""
    detail: str = ""


@dataclass(kw_only=True)
class Inspection:
    """One look at everything, or at one batch; `findings` may be gone through once."""

    engine: Engine
    #: The images' folder.
    root: Path
    batch_id: int | None = None
    #: The queue, where one can be reached.
    queue: Queue | None = None
    #: Whether every image is decoded and its pixels compared.
    deep: bool = False
    #: Seconds: what is younger may be somebody's work.
    age: float = 300.0
    #: What was looked at: ``jobs``, ``images``, ``files``, ``queued``.
    seen: Counter[str] = field(default_factory=Counter)
    _jobs_of: Counter[int] = field(default_factory=Counter)
    _queued: IdSet = field(default_factory=IdSet)

    def findings(self) -> Iterator[Finding]:
        """All differences, as they come."""
        self._began = time.time()
        self._before = self._began - self.age
        yield from self._check_jobs()
        for batch in inspection.batches(self.engine, self.batch_id):
            yield from self._check_batch(batch)
            yield from self._check_folder(batch)
        yield from self._check_queue()

    # ---- jobs

    def _check_jobs(self) -> Iterator[Finding]:
        for row in inspection.jobs(self.engine, self.batch_id):
            self.seen["jobs"] += 1
            self._jobs_of[row.batch_id] += 1
            if row.state is JobState.QUEUED:
                self._queued.add(row.id)
            yield from self._check_job(row)

    def _check_job(self, row: Row[Any]) -> Iterator[Finding]:
        succeeded = row.state is JobState.SUCCEEDED
        if succeeded and row.image_path is None:
            yield _of_job("unrecorded", row)
        elif succeeded:
            self.seen["images"] += 1
            yield from self._check_image(row)
        elif row.image_path is not None:
            yield _of_job("untimely", row, f"it is {row.state.value}")
        if row.state is JobState.RUNNING and self._is_stalled(row.id):
            yield _of_job("stalled", row)

    def _is_stalled(self, job_id: int) -> bool:
        """Asked anew: a page may be read long before its last row is looked at."""
        row = inspection.find_jobs(self.engine, [job_id]).get(job_id)
        return bool(row and row.state is JobState.RUNNING and row.lease_until and row.lease_until < time.time())

    def _check_image(self, row: Row[Any]) -> Iterator[Finding]:
        path = path_inside(self.root, row.image_path)
        if path is None:
            yield _of_job("missing", row, "its path leads out of the images' folder")
        elif flaw := find_flaw(path, row, deep=self.deep):
            yield _of_job(flaw.kind, row, flaw.detail)

    # ---- batches and their folders

    def _check_batch(self, batch: Row[Any]) -> Iterator[Finding]:
        if batch.submitted_at is None:
            if batch.created_at < self._before:
                yield Finding("unopened", batch.id, detail=batch.name)
        elif batch.submitted_at < self._began and self._jobs_of[batch.id] != batch.total:
            yield Finding("miscounted", batch.id, detail=f"{self._jobs_of[batch.id]} jobs, and not {batch.total}")

    def _check_folder(self, batch: Row[Any]) -> Iterator[Finding]:
        folder = path_inside(self.root, f"{batch.folder}/")
        entries = _files(folder) if folder else iter(())
        while part := list(islice(entries, inspection.PAGE)):
            self.seen["files"] += len(part)
            named = [(entry, found) for entry in part if (found := _job_named(entry.name))]
            rows = inspection.find_jobs(self.engine, [job_id for _, job_id in named])
            owners = {entry.name: rows.get(job_id) for entry, job_id in named}
            for entry in part:
                yield from self._check_file(batch, entry, owners.get(entry.name))

    def _check_file(self, batch: Row[Any], entry: "os.DirEntry[str]", row: Row[Any] | None) -> Iterator[Finding]:
        path = f"{batch.folder}/{entry.name}"
        of_job = partial(Finding, batch_id=batch.id, job_id=row.id if row else None, path=path)
        if TEMPORARY.fullmatch(entry.name):
            if _modified(entry) < self._before and not (row and row.state is JobState.RUNNING):
                yield of_job("temporary")
        elif not entry.name.startswith(".") and not (row and _is_of(entry.name, path, row)):
            yield of_job("orphan")

    # ---- the queue

    def _check_queue(self) -> Iterator[Finding]:
        self.seen["queued"] = len(self._queued)
        if self.queue is None or not self._queued:
            return
        _strike_out(self._queued, self.queue)
        if self._queued:
            time.sleep(PAUSE)
            _strike_out(self._queued, self.queue)
        missed = iter(self._queued)
        while part := list(islice(missed, inspection.PAGE)):
            waiting = inspection.waiting_jobs(self.engine, part, self._before)
            yield from (_of_job("unsent", row) for row in waiting)


def _of_job(kind: str, row: Row[Any], detail: str = "") -> Finding:
    return Finding(kind, row.batch_id, row.id, row.fence, row.priority, row.image_path or "", detail)


def _strike_out(ids: IdSet, queue: Queue) -> None:
    """Leave the jobs that no message speaks of."""
    for spoken_of in queue.waiting_ids():
        for job_id in spoken_of:
            ids.discard(job_id)


def path_inside(root: Path, path: str) -> str | None:
    """Where a path of the ledger is; None where that is not a file in a folder of the root, or such a folder."""
    found = PLACE.fullmatch(path)
    folder = found and _folder(root, found[1])
    return f"{folder}{found[2]}" if found and folder else None


@lru_cache(maxsize=256)
def _folder(root: Path, name: str) -> str | None:
    return f"{root / name}/" if (root / name).resolve().parent == root.resolve() else None


def _files(folder: str) -> Iterator["os.DirEntry[str]"]:
    """The regular files in a folder, which may not be there."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from (entry for entry in entries if entry.is_file(follow_symlinks=False))


def _job_named(name: str) -> int | None:
    """The job in the name of an image, whole or not."""
    found = OWNED.fullmatch(name)
    return next((int(job_id) for job_id in found.groups() if job_id), None) if found else None


def _is_of(name: str, path: str, row: Row[Any]) -> bool:
    """Whether a file is its job's image, or will be replaced by it: a worker died between saving and recording."""
    if row.image_path is not None:
        return bool(row.image_path == path)
    return not row.state.is_final and name.startswith(f"{row.id:08d}-{row.seed}.")


def _modified(entry: "os.DirEntry[str]") -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return time.time()
