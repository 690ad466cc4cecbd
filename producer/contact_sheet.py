"""Contact sheets of a batch: its images in pages, with captions."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row

from db import queries
from producer.errors import SheetRefused
from producer.numbered_files import NumberedFiles, draft, give_name
from producer.picture import file_of
from producer.sheet import Entry, Sheet

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class ContactSheet:
    """The images of one batch that are on disk, in the order of its jobs."""

    def __init__(self, engine: Engine, batch: Row[Any], images: Path, captions: Sequence[str] = ()) -> None:
        """``captions``: what stands under each image: columns of the ledger, ``job`` and ``file``."""
        self._engine, self._batch, self._images, self._captions = engine, batch, images, captions
        #: Images that are in the ledger and not on disk.
        self.missing = 0

    def save(self, sheet: Sheet, output: Path) -> Iterator[Path]:
        """Save all pages in a folder, or as a file, or files of that name with numbers; each when it is asked for.

        Raises:
            SheetRefused: there is no image, or no page can be written.
            PictureUnreadable: one is no image any more.
        """
        try:
            yield from self._save(sheet, output)
        except OSError as error:
            where = error.filename or output
            raise SheetRefused(f"{where}: {error.strerror or error}; name another place with -o.") from error

    def _save(self, sheet: Sheet, output: Path) -> Iterator[Path]:
        size, entries = sheet.columns * sheet.page_rows(), self._entries()
        count = len(list(zip(range(size + 1), self._entries(), strict=False)))
        if not count:
            raise SheetRefused(f"Batch {self._batch.id} has no images to show; `promptmill status` says how far it is.")
        self.missing = 0
        if output.is_dir() or not output.suffix:
            yield from _numbered(sheet, entries, output, f"{self._batch.folder}-", ".png")
        elif output.suffix.lower() not in SUFFIXES:
            raise SheetRefused(f"{output} is neither a folder nor a file of {', '.join(SUFFIXES)}.")
        elif count > size:
            yield from _numbered(sheet, entries, output.parent, f"{output.stem}-", output.suffix)
        else:
            yield _single(sheet, entries, output)

    def _entries(self) -> Iterator[Entry]:
        for row in queries.pictures(self._engine, self._batch.id):
            if found := entry_of(row, self._images, self._captions):
                yield found
            else:
                self.missing += 1


def entry_of(row: Row[Any], images: Path, captions: Sequence[str]) -> Entry | None:
    """A job's image with its captions; None where it is not on disk."""
    path = file_of(row, images)
    return Entry(path, tuple(_caption(row, name) for name in captions)) if path and path.is_file() else None


def _numbered(sheet: Sheet, entries: Iterator[Entry], folder: Path, head: str, suffix: str) -> Iterator[Path]:
    files = NumberedFiles(folder, head=re.escape(head), digits=2)
    return sheet.save(entries, files, head=head, suffix=suffix)


def _single(sheet: Sheet, entries: Iterator[Entry], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft(path.parent, path.suffix) as written:
        next(sheet.pages(entries)).save(written)
        if not give_name(written, path):
            raise SheetRefused(f"{path} is there already; name another file, or a folder.")
    return path


def _caption(row: Row[Any], name: str) -> str:
    if name == "file":
        return Path(row.image_path).name
    value = row.id if name == "job" else getattr(row, name)
    if name == "prompt":
        return str(value)
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
