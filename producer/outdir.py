"""What is to be in the folder that an original script would have filled, and what of it is there already.

Both are noted in the home, a file a batch, so that a batch which was stopped goes on where it stood.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from msgspec import DecodeError, Struct, field, json
from sqlalchemy import Row

from producer.errors import RunRefused


class Outdir(Struct, frozen=True, kw_only=True):
    """What is to be in the folder when the batch is done."""

    folder: str
    #: Whose names: ``samples/00000.png``, ``<prompt>/seed_42_00000.png``, or that of the init image.
    names: Literal["compvis", "optimized", "init_image"] = field(name="compat")
    #: Whether single images are wanted, and grids of them.
    singles: bool = True
    grid: bool = True
    #: Images per row of a grid.
    columns: int = 1


class Note(Struct, frozen=True, omit_defaults=True):
    """A line of the notes: a job's image is in place, or the grids are."""

    path: str
    job: int | None = None


class Heading(Struct, frozen=True):
    """The first line of the notes. The time tells the batch from that of another ledger."""

    created_at: float
    outdir: Outdir


class Notes:
    """The notes of one batch, held by one process at a time."""

    def __init__(self, file: IO[bytes], heading: Heading, notes: Sequence[Note]) -> None:
        self.outdir = heading.outdir
        self.created_at = heading.created_at
        #: Where single images are, by job.
        self.images = {note.job: note.path for note in notes if note.job is not None}
        self.grids = [note.path for note in notes if note.job is None]
        self._file = file

    def add_image(self, job: int, path: Path) -> None:
        self.images[job] = str(path)
        self._write(Note(str(path), job))

    def add_grid(self, path: Path) -> None:
        self.grids.append(str(path))
        self._write(Note(str(path)))

    def summary(self) -> str:
        """What is in the outdir now, in a line."""
        grids = [Path(path).name for path in self.grids]
        singles = [f"{len(self.images)} images"] if self.outdir.singles else []
        return f"{' and '.join([*singles, *grids]) or 'Nothing yet'} in {self.outdir.folder}"

    def _write(self, note: Note) -> None:
        self._file.write(json.encode(note) + b"\n")
        self._file.flush()


def writable_folder(name: str) -> str:
    """The whole path of a folder that is to be filled, and need not be there. Raises RunRefused."""
    with suppress(OSError, RuntimeError, ValueError):
        # Of a name no file system takes, or in the home of nobody, there is nothing to ask.
        folder = Path(name).expanduser().absolute()
        existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
        if existing.is_dir() and os.access(existing, os.W_OK):
            return str(folder)
    raise RunRefused(f"--outdir {name:.200} is not a folder that can be written to; name another.")


def begin_notes(home: Path, batch: Row[Any], outdir: Outdir) -> None:
    """Note what a new batch is to leave in its outdir."""
    path = _path(home, batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.encode(Heading(batch.created_at, outdir)) + b"\n")


@contextmanager
def open_notes(home: Path, batch: Row[Any]) -> Iterator[Notes | None]:
    """The notes of a batch; None when it has no outdir, or another process is filling it."""
    try:
        file = _path(home, batch).open("r+b")
    except FileNotFoundError:
        yield None
        return
    with file:
        notes = _read(file) if _lock(file) else None
        yield notes if notes and notes.created_at == batch.created_at else None


def _path(home: Path, batch: Row[Any]) -> Path:
    return home / "outdirs" / f"{batch.folder}.jsonl"


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[bytes]) -> Notes | None:
    first, *lines = file.read().split(b"\n")
    if lines and lines[-1]:
        # The last line was cut off by a crash.
        file.write(b"\n")
    try:
        heading = json.decode(first, type=Heading)
    except DecodeError:
        return None
    return Notes(file, heading, list(_decode(lines)))


def _decode(lines: Sequence[bytes]) -> Iterator[Note]:
    for line in lines:
        try:
            yield json.decode(line, type=Note)
        except DecodeError:
            continue
