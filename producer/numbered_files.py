"""Files under running numbers that never take the place of another, whoever else writes into the folder."""

import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

#: Bytes of a folder's name: file systems take 255, and Windows 260 characters of a whole path.
MOST_BYTES = 120
#: What Windows and other systems forbid in names, and the space.
FORBIDDEN = re.compile(r'[\s<>:"/\\|?*\x00-\x1f\x7f]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.IGNORECASE)


class NumberedFiles:
    """The files of one folder whose names end in a number; new ones get the next."""

    def __init__(self, folder: Path, *, head: str = "", digits: int, first: int = 0) -> None:
        """``head`` is a regular expression of what is before the number. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._digits = folder, digits
        name = re.compile(rf"{head}(\d{{1,9}})")
        found = (name.fullmatch(path.stem) for path in folder.iterdir())
        self._next = max((int(match[1]) for match in found if match), default=first - 1) + 1

    def add(self, source: Path, head: str = "") -> Path:
        """Give the file a second name here: ``head`` and the next free number. Raises OSError."""
        while True:
            target = self.folder / f"{head}{self._next:0{self._digits}}{source.suffix}"
            self._next += 1
            if give_name(source, target):
                return target


def add_named(source: Path, folder: Path, name: str) -> Path:
    """Give the file a second name in the folder: ``cat.png``, or where that is taken ``cat-2.png``. Raises OSError."""
    numbered = NumberedFiles(folder, head=re.escape(f"{name}-"), digits=1, first=2)
    target = folder / f"{name}{source.suffix}"
    return target if give_name(source, target) else numbered.add(source, f"{name}-")


@contextmanager
def draft(folder: Path, suffix: str) -> Iterator[Path]:
    """A file in the folder to be written and given a name; its own is removed at the end."""
    path = folder / f".{uuid4().hex}.part{suffix}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def folder_name(prompt: str) -> str:
    """A prompt as the name of a folder that every file system takes: ``a_red_circle``."""
    name = FORBIDDEN.sub("_", unicodedata.normalize("NFC", prompt))
    name = "".join(character for character in name if character.isprintable())
    name = name.encode()[:MOST_BYTES].decode(errors="ignore").strip(". ") or "_"
    return f"_{name}" if RESERVED.fullmatch(name) else name


def give_name(source: Path, target: Path) -> bool:
    """A second name for a file, or a copy where that cannot be; False when the name is taken. Raises OSError."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:
        # Another file system, or one without hard links.
        return _copy(source, target)
    return True


def _copy(source: Path, target: Path) -> bool:
    with source.open("rb") as original:
        try:
            copy = target.open("xb")
        except FileExistsError:
            return False
        with copy:
            try:
                shutil.copyfileobj(original, copy)
            except BaseException:
                target.unlink()
                raise
    return True
