"""The text of a prompt file, line by line, as often as it is wanted."""

import codecs
import hashlib
import io
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, cast

from producer.errors import InvalidPromptFile
from producer.problems import Problem, Report

LONGEST_LINE = 1 << 20
"""Characters; what is longer is no prompt file, and would not be read in constant memory."""
BLOCK = 1 << 20


class Source:
    """An open prompt file. Standard input and pipes are copied to a temporary file, so that they can be read again.

    Raises InvalidPromptFile where it cannot be opened.
    """

    def __init__(self, path: Path | Literal["-"], label: str | None = None) -> None:
        self.path = None if path == "-" else Path(path)
        self.label = label or ("stdin" if self.path is None else str(self.path))
        """What messages call it."""
        self.last = ""
        """The line that was read last."""
        try:
            self._file = _open(self.path)
            weakref.finalize(self, self._file.close)
            self.sha256 = _digest(self._file)
        except OSError as error:
            raise InvalidPromptFile([Problem(self.label, 0, "", _reason(error))], 1) from error

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return "stdin" if self.path is None else self.path.name

    @property
    def suffix(self) -> str:
        return "" if self.path is None else self.path.suffix.lower()

    @property
    def folder(self) -> Path:
        """Where relative paths in the file start from."""
        return Path() if self.path is None else self.path.parent

    def lines(self, report: Report) -> Iterator[str]:
        """All lines with their ends, from the start; what is no text in them is reported, and replaced.

        One pass at a time: another one starts the file anew.
        """
        with self._text() as text:
            number = 0
            try:
                for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE), ""), 1):
                    if len(line) == LONGEST_LINE:
                        return report.add(
                            number, "", f"is longer than {LONGEST_LINE} characters; a prompt a line is needed"
                        )
                    self.last = line if line.isascii() and "\0" not in line else _clean(number, line, report)
                    yield self.last
            except UnicodeError:
                report.add(number + 1, "", "is not valid UTF-16; save the file as UTF-8")

    def first_line(self) -> str:
        """The first line that is not blank, or nothing."""
        return next((line for line in self.lines(Report(self.label, 0)) if not line.isspace()), "")

    @contextmanager
    def _text(self) -> Iterator[io.TextIOWrapper]:
        self._file.seek(0)
        encoding = _encoding(self._file.read(4))
        self._file.seek(0)
        errors = "strict" if encoding == "utf-16" else "surrogateescape"
        text = io.TextIOWrapper(self._file, encoding=encoding, errors=errors, newline="")
        try:
            yield text
        finally:
            # A pass that is dropped half-way may end after its file.
            if not self._file.closed:
                text.detach()


def _open(path: Path | None) -> BinaryIO:
    if path is None:
        return _spool(sys.stdin.buffer)
    file = path.open("rb")
    if path.is_file():
        return file
    with file:
        return _spool(file)


def _spool(stream: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its PromptFile
    shutil.copyfileobj(stream, copy, BLOCK)
    return cast(BinaryIO, copy)


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _reason(error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return "is a folder; give a file of prompts"
    if isinstance(error, FileNotFoundError):
        return "does not exist; give a file of prompts, or - for standard input"
    return f"cannot be read: {error.strerror or error}"


def _encoding(start: bytes) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _clean(number: int, line: str, report: Report) -> str:
    if "\0" in line:
        report.add(number, "", "holds a NUL character; save the file as UTF-8 text")
        line = line.replace("\0", "\ufffd")
    try:
        line.encode()
    except UnicodeEncodeError:
        report.add(number, "", "is not valid UTF-8; save the file as UTF-8")
        return line.encode(errors="replace").decode()
    return line
