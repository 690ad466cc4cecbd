"""Jobs and their images in the forms that other programs take.

Jobs are read page by page and written as they come. What is written has a temporary name until it is whole, and takes
the place of nothing.
"""

import csv
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile

from msgspec import json
from sqlalchemy import Row

from configs.parameters import PARAMETERS
from producer.errors import ExportRefused, ExtraMissing
from producer.history import record
from producer.picture import file_of
from producer.recorded_noise import NOISE_RECORD
from producer.table import FORMULA

Rows = Callable[[], Iterable[Row[Any]]]
"""Gives the jobs; may be called several times."""
#: One job is one image.
COLUMNS = [name for name in PARAMETERS if name != "num_images"]


@dataclass(frozen=True)
class Outcome:
    """How many jobs or images were written, and how many image files were not there."""

    written: int
    missing: int = 0


@dataclass(frozen=True)
class Export:
    """What is written of jobs, and how."""

    rows: Rows
    #: The images' folder.
    root: Path
    #: Whether cells that a spreadsheet would take for a formula get a ' before them.
    safe: bool = False
    #: Whether images are hard links where the file system allows it, and take no room.
    link: bool = False

    def write(self, form: str, target: Path) -> Outcome:
        """Write a form of `FORMS`.

        Raises:
            ExportRefused: there is something already, or it cannot be written; nothing is left then.
        """
        begin = _new_folder if form in FOLDERS else _new_file
        try:
            with begin(target) as part:
                return FORMS[form](self, part)
        except OSError as error:
            raise ExportRefused(f"{target} cannot be written: {error.strerror or error}.") from error

    def _csv(self, path: Path) -> Outcome:
        with path.open("w", encoding="utf-8", newline="") as file:
            return Outcome(_count(map(csv.writer(file).writerow, self.lines())) - 1)

    def lines(self) -> Iterator[list[object]]:
        """The lines of a csv, of which the first has the names."""
        tags, recorded = dict[str, None](), False
        for row in self.rows():
            tags.update(dict.fromkeys(row.tags))
            recorded = recorded or row.noise is not None
        names = [*COLUMNS, NOISE_RECORD] if recorded else COLUMNS
        yield [*names, *tags]
        yield from (self._cells(row, names, tags) for row in self.rows())

    def _cells(self, row: Row[Any], names: Iterable[str], tags: Iterable[str]) -> list[object]:
        written = {
            "weights": "on" if row.weights else "off",
            NOISE_RECORD: json.encode(row.noise).decode() if row.noise else None,
        }
        cells = [written[name] if name in written else getattr(row, name) for name in names]
        return [self._cell(value) for value in (*cells, *(row.tags.get(name) for name in tags))]

    def _cell(self, value: object) -> object:
        return f"'{value}" if self.safe and isinstance(value, str) and value.startswith(FORMULA) else value

    def _jsonl(self, path: Path) -> Outcome:
        with path.open("wb") as file:
            return Outcome(_count(_write_line(file, self._record(row)) for row in self.rows()))

    def _record(self, row: Row[Any]) -> dict[str, Any]:
        return {name: value for name, value in record(row, self.root).items() if value is not None}

    def _parquet(self, path: Path) -> Outcome:
        try:
            from producer.parquet import write_parquet
        except ImportError as error:
            raise ExtraMissing(f"Parquet needs {error.name}, too: pip install 'promptmill[parquet]'.") from error
        return Outcome(write_parquet((record(row, self.root) for row in self.rows()), path))

    def _infotext(self, path: Path) -> Outcome:
        """What A1111 reads, of every image that carries it; a blank line between two."""
        from producer.show import read_image

        found = missing = 0
        with path.open("w", encoding="utf-8") as file:
            for _, image in self._images():
                text = read_image(image).infotext if image.is_file() else None
                found, missing = found + bool(text), missing + (not text)
                file.write(f"{text}\n\n" if text else "")
        return Outcome(found, missing)

    def _folder(self, path: Path) -> Outcome:
        """The layout of Hugging Face's imagefolder: images, and a line for each in ``metadata.jsonl``."""
        written = missing = 0
        with (path / "metadata.jsonl").open("wb") as file:
            for row, image in self._images():
                name = _file_name(row, image)
                try:
                    self._place(image, path / name)
                except FileNotFoundError:
                    missing += 1
                    continue
                _write_line(file, {"file_name": name, "text": row.prompt, **self._record(row)})
                written += 1
        return Outcome(written, missing)

    def _place(self, image: Path, target: Path) -> None:
        if self.link:
            with suppress(PermissionError, NotImplementedError, OSError):
                return os.link(image, target)
        shutil.copyfile(image, target)

    def _zip(self, path: Path) -> Outcome:
        with ZipFile(path, "w", ZIP_STORED) as archive:
            found = Counter(self.fill(archive))
        return Outcome(found[True], found[False])

    def fill(self, archive: ZipFile) -> Iterator[bool]:
        """Add each image, when it is asked for, and their lines behind the last one; yields whether it was there."""
        with tempfile.TemporaryFile() as lines:
            for row, image in self._images():
                name = _file_name(row, image)
                if there := image.is_file():
                    archive.write(image, name)
                    _write_line(lines, {"file_name": name, "text": row.prompt, **self._record(row)})
                yield there
            lines.seek(0)
            with archive.open("metadata.jsonl", "w", force_zip64=True) as metadata:
                shutil.copyfileobj(lines, metadata)

    def _images(self) -> Iterator[tuple[Row[Any], Path]]:
        """The jobs that have an image below the images' folder, and where it is."""
        for row in self.rows():
            if image := file_of(row, self.root):
                yield row, image


FORMS: dict[str, Callable[[Export, Path], Outcome]] = {
    "csv": Export._csv,
    "jsonl": Export._jsonl,
    "parquet": Export._parquet,
    "infotext": Export._infotext,
    "imagefolder": Export._folder,
    "zip": Export._zip,
}
FOLDERS = {"imagefolder"}


def _file_name(row: Row[Any], image: Path) -> str:
    return f"{row.id:08d}-{row.seed}{image.suffix}"


def _write_line(file: IO[bytes], values: object) -> int:
    return file.write(json.encode(values) + b"\n")


def _count(written: Iterable[object]) -> int:
    return sum(1 for _ in written)


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """A temporary name for a file that gets its own when the block ends well."""
    _refuse(target)
    with ExitStack() as stack:
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        stack.callback(part.unlink, missing_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        _refuse(target)
        part.rename(target)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """The same for a folder."""
    _refuse(target)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield part
        part.chmod(0o755)
        _refuse(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse(target: Path) -> None:
    if target.exists():
        raise ExportRefused(f"{target} exists: name a new place.")
