"""Styles: named texts around a prompt, from a ``styles.csv`` as A1111 writes it.

Its columns are ``name``, ``prompt`` and ``negative_prompt``. A text with ``{prompt}`` takes the prompt in there, any
other goes behind it, after a comma. Rows whose name begins with ``#`` are comments.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from configs.errors import ConfigError
from configs.parameters import read_text
from producer.columns import fold
from producer.errors import InvalidPromptFile, InvalidTemplate
from producer.problems import Report
from producer.source import Source
from producer.suggestions import suggest

PLACE = "{prompt}"
HEADINGS = {"name": "name", "prompt": "prompt", "text": "prompt", "negativeprompt": "negative_prompt"}
NO_FILE = "needs a file of styles; give one with --styles"


class Style(NamedTuple):
    """What a style puts around a prompt, and around a negative prompt."""

    prompt: str = ""
    negative_prompt: str = ""


class Styles:
    """The styles of a file.

    Raises:
        InvalidTemplate: it is none.
        InvalidPromptFile: it cannot be read as one; the problems have its lines.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidTemplate(f"{path} is no file of styles; name one with --styles.")
        source = Source(path)
        report = Report(source.label, 100)
        self.sha256 = source.sha256
        self._styles = dict(_read(source, report))
        if not (self._styles or report.total):
            report.add(0, "", "has no styles; it needs the columns name, prompt and negative_prompt")
        if report.total:
            raise InvalidPromptFile(report.problems, report.total)

    def names(self) -> list[str]:
        return list(self._styles)

    def split(self, cell: str) -> list[str]:
        """The names in a cell: one, or several with commas between them. Raises InvalidTemplate."""
        if cell.strip() in self._styles:
            return [cell.strip()]
        return [self.known(name) for name in map(str.strip, cell.split(",")) if name]

    def known(self, name: str) -> str:
        """The name, if it is one. Raises InvalidTemplate."""
        if name not in self._styles:
            advice = suggest(name, self._styles, f"there are {', '.join(list(self._styles)[:20])}")
            raise InvalidTemplate(f"{name!r:.60} is no style; {advice}")
        return name

    def apply(self, names: Sequence[str], prompt: str, negative_prompt: str) -> tuple[str, str]:
        """Prompt and negative prompt with these styles, each around what the one before it made."""
        for style in (self._styles[name] for name in names):
            prompt = merge(style.prompt, prompt)
            negative_prompt = merge(style.negative_prompt, negative_prompt)
        return prompt, negative_prompt


def merge(style: str, text: str) -> str:
    """A text with a style's."""
    if PLACE in style:
        return style.replace(PLACE, text)
    return ", ".join(filter(None, (text.strip(), style.strip()))) if style.strip() else text


def _read(source: Source, report: Report) -> Iterator[tuple[str, Style]]:
    """A style that is there again goes over the one before, as in A1111."""
    columns: list[str] = []
    for line, cells in _rows(source, report):
        if not columns:
            columns = [HEADINGS.get(fold(cell), "") for cell in cells]
            if "name" not in columns or "prompt" not in columns:
                return report.add(line, "", "is no header with the columns name and prompt")
            continue
        found = dict(zip(columns, cells, strict=False))
        name = found.get("name", "").strip()
        if name and not name.startswith("#"):
            try:
                yield name, Style(*(read_text(found.get(key, "")) for key in Style._fields))
            except ConfigError as error:
                report.add(line, name, str(error))


def _rows(source: Source, report: Report) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(source.lines(report), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            return report.add(start, "", f"is no row of a CSV file: {error}")
        if any(map(str.strip, cells)):
            yield start, cells
