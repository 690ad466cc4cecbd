"""Another home's ledger and images, brought into this one, batch by batch; the other is only read.

Rows come before files, and files before the batch is opened. So whatever a death leaves of a batch is named by the rows
of one that is not open, and the next merge removes it and begins that batch again.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import Connection, Engine, Row
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from configs.settings import PREFIX, read_settings
from db import merging
from db.errors import NotInLedger
from db.ledger import Ledger
from db.models import JobState
from producer.errors import MergeRefused, NoOtherLedger
from producer.fsck import path_inside
from producer.picture import SUFFIXES, Flaw, find_flaw
from producer.submit import slug

#: Names the file that one merge at a time holds locked, in the images' folder: hosts that share a ledger share that.
TURN = ".merging"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where another ledger is, and its images."""

    url: str
    root: Path


@dataclass(kw_only=True)
class Arrival:
    """What became of one batch of the other ledger."""

    batch: Row[Any]
    #: Its number here; None where it would only come.
    here: int | None = None
    #: Whether it was here before.
    known: bool = False
    jobs: int = 0
    images: int = 0
    waiting: int = 0
    #: Files by how they came, and those that are missing or not as they should be.
    linked: int = 0
    copied: int = 0
    flawed: int = 0

    def counts(self) -> dict[str, int]:
        """All that can be added up."""
        names = ("jobs", "images", "waiting", "linked", "copied", "flawed")
        return {"known": self.known, "batches": not self.known, **{name: getattr(self, name) for name in names}}


def find_place(other: str, images: Path | None) -> Place:
    """Where a home folder, a SQLite file or a URL leads.

    Raises:
        NoOtherLedger: there is nothing, or nobody says where its images are.
    """
    path = Path(other)
    if "://" in other:
        place = _place_of_url(other, images)
    elif path.is_dir():
        settings = read_settings({f"{PREFIX}HOME": str(path)}, path)
        place = Place(settings.ledger_url, images or settings.images_root)
    elif path.is_file():
        url = URL.create("sqlite", database=str(path.resolve()))
        place = Place(url.render_as_string(hide_password=False), images or path.parent / "images")
    else:
        raise NoOtherLedger(f"There is no {other}: name a home, a SQLite file, or the URL of a database.")
    return place


def _place_of_url(other: str, images: Path | None) -> Place:
    try:
        url = make_url(other)
    except ArgumentError as error:
        raise NoOtherLedger(f"{other} is no URL of a database: name a home, a SQLite file, or a URL.") from error
    if images is None and url.get_backend_name() == "sqlite":
        return Place(other, Path(url.database or "").parent / "images")
    if images is None:
        raise NoOtherLedger("The URL does not say where the images of that ledger lie: add --images DIR.")
    return Place(other, images)


def survey(engine: Engine, other: Engine) -> Iterator[Arrival]:
    """What a merge would bring."""
    known = merging.known_batches(engine)
    with merging.begin_reading(other) as origin:
        for batch in merging.batches(origin):
            seen = known.get(merging.uid_of(batch))
            if seen and seen.is_open:
                yield Arrival(batch=batch, here=seen.id, known=True)
            else:
                jobs, images = merging.count_batch(origin, batch.id)
                yield Arrival(batch=batch, jobs=jobs, images=images)


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Brings the batches of another ledger."""

    ledger: Ledger
    other: Engine
    #: Where images go, and where they come from.
    root: Path
    origin: Path
    #: Told a sentence for each file that is not as the other ledger says.
    tell: Callable[[str], object]

    def arrivals(self) -> Iterator[Arrival]:
        """Bring all, one after the other; each is here as a whole when it is given.

        Raises:
            MergeRefused: another merge goes on, or a file cannot be written; what came before is here.
            NoOtherLedger: there is no folder of the other's images.
        """
        with _turn(self.root), merging.begin_reading(self.other) as origin:
            known = merging.known_batches(self.ledger.engine)
            for batch in merging.batches(origin):
                uid = merging.uid_of(batch)
                seen = known.get(uid)
                if seen and seen.is_open:
                    yield Arrival(batch=batch, here=seen.id, known=True)
                    continue
                if seen:
                    discard(self.ledger, self.root, seen.id)
                arrival = self._bring(origin, batch)
                known[uid] = merging.Known(arrival.here or 0, is_open=True)
                yield arrival

    def _bring(self, origin: Connection, batch: Row[Any]) -> Arrival:
        batch_id, folder = self._begin(batch)
        arrival = Arrival(batch=batch, here=batch_id)
        try:
            for page in merging.pages(origin, batch.id):
                self._add(page, arrival, folder)
            if arrival.images:
                _sync(folder)
                _sync(self.root)
            merging.open_merged(self.ledger, batch_id, origin, batch)
        except NotInLedger:
            # Whoever removed the batch did not know of all its files.
            if arrival.images:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        except BaseException as error:
            discard(self.ledger, self.root, batch_id)
            if isinstance(error, OSError):
                raise MergeRefused(f"Batch {batch.id} of the other ledger could not be brought: {error}.") from error
            raise
        return arrival

    def _begin(self, batch: Row[Any]) -> tuple[int, Path]:
        """Record a batch without jobs; returns its id and its folder, which nobody has."""
        name = slug(re.sub(r"^\d+-?", "", batch.folder))
        while True:
            batch_id = merging.begin_batch(self.ledger, batch, name)
            folder = self.root / f"{batch_id:04d}-{name}".rstrip("-")
            if not folder.exists():
                return batch_id, folder
            # Another ledger's images may lie there.
            merging.discard(self.ledger, batch_id)
            name = f"{name[:30].rstrip('-')}-{uuid4().hex[:8]}"

    # ---- files

    def _add(self, page: merging.Page, arrival: Arrival, folder: Path) -> None:
        assert arrival.here is not None
        ids = merging.add_page(self.ledger, arrival.here, page, partial(_path, folder.name))
        arrival.jobs += len(ids)
        arrival.waiting += sum(job.state is JobState.QUEUED for job in page.jobs)
        if page.images and not arrival.images:
            self._check_origin()
            folder.mkdir(parents=True)
        for job_id, job in zip(ids, page.jobs, strict=True):
            if image := page.images.get(job.id):
                arrival.images += 1
                self._fetch(image, self.root / _path(folder.name, job_id, job, image), arrival)

    def _check_origin(self) -> None:
        if not self.origin.is_dir():
            raise NoOtherLedger(f"There is no {self.origin}: say with --images where the other ledger's images lie.")

    def _fetch(self, image: Row[Any], target: Path, arrival: Arrival) -> None:
        """Link or copy the file of an image, whatever is wrong with it."""
        source = self._source(image.path)
        if source is None:
            return self._note(image, "it is not there", arrival)
        if _link(source, target):
            arrival.linked += 1
        else:
            _copy(source, target)
            arrival.copied += 1
        if flaw := _flaw(target, image):
            self._note(image, flaw.detail, arrival)
        return None

    def _source(self, path: str) -> Path | None:
        """The file of an image; None where there is none in a folder of the other's images."""
        found = path_inside(self.origin, path)
        source = Path(found) if found else None
        return source if source and source.is_file() and not source.is_symlink() else None

    def _note(self, image: Row[Any], detail: str, arrival: Arrival) -> None:
        arrival.flawed += 1
        self.tell(f"{self.origin / image.path} is not as the other ledger says: {detail}.")


def discard(ledger: Ledger, root: Path, batch_id: int) -> None:
    """Remove a batch that is not open, files first: nobody would know them without the rows."""
    for path in merging.paths_of(ledger.engine, batch_id):
        if found := path_inside(root, path):
            file = Path(found)
            file.unlink(missing_ok=True)
            # When it was the last one there.
            with suppress(OSError):
                file.parent.rmdir()
    merging.discard(ledger, batch_id)


def _path(folder: str, job_id: int, job: Row[Any], image: Row[Any]) -> str:
    """As workers name images; below the images' folder."""
    suffix = Path(image.path).suffix
    return f"{folder}/{job_id:08d}-{job.seed}{suffix if suffix in SUFFIXES else '.png'}"


def _link(source: Path, target: Path) -> bool:
    """Whether a file has a second name now; another disk, or rights, can forbid it."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a file, and read it back."""
    with source.open("rb") as origin, target.open("xb") as copy:
        shutil.copyfileobj(origin, copy, CHUNK)
        copy.flush()
        os.fsync(copy.fileno())
    if _digest(source) != _digest(target):
        raise OSError(f"{target} is not what was copied")


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def _flaw(path: Path, image: Row[Any]) -> Flaw | None:
    told = {f"image_{name}": value for name, value in image._asdict().items()}
    return find_flaw(str(path), cast("Row[Any]", SimpleNamespace(id=image.job_id, **told)), deep=False)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """Of several merges, the second one ends at once: it would take the first one's batch for a dead one's."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / TURN, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MergeRefused("Another merge into this ledger goes on: wait until it has ended.") from error
        yield
    finally:
        os.close(descriptor)
