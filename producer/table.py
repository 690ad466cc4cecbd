"""Text for people and for programs: aligned columns, JSON lines, CSV."""

import csv
import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from configs.plain_text import plain

#: Characters at the start of a cell for which a spreadsheet takes it for a formula (https://owasp.org/www-community/attacks/CSV_Injection).
FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\N{FULLWIDTH EQUALS SIGN}",
    "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}",
    "\N{FULLWIDTH COMMERCIAL AT}",
)
#: Names longer than this do not push the values of the others aside.
LONGEST_NAME = 24
#: What a cell is cut to where the output is no terminal with a width.
WIDE = 10_000


def moment(seconds: float | None) -> str:
    """A time of the ledger as local time; empty for None."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they need to be; the last one takes what the terminal has left."""
    lines = [list(header), *([plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    last = max(8, room - sum(width + 2 for width in widths[:-1]))
    for line in lines:
        *cells, end = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join([*cells, _cut(end.rstrip(), last)]).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """One name and value a line; what is empty is left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", {})}
    width = min(max(map(len, shown), default=0), LONGEST_NAME)
    for name, value in shown.items():
        print(f"{plain(name).ljust(width)}  {plain(str(value))}")


def print_json_lines(records: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line: exact, with what could rule a terminal in JSON's own escapes."""
    for record in records:
        text = json.dumps(record, ensure_ascii=not _takes_unicode())
        print(text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text))


def print_csv(names: Sequence[str], records: Iterable[Mapping[str, Any]], *, safe: bool = False) -> None:
    """CSV, exact but for a terminal; when ``safe``, with a ' before what a spreadsheet would take for a formula."""
    writer = csv.DictWriter(Lines(), names)
    writer.writeheader()
    cell = partial(_cell, safe=safe, inert=sys.stdout.isatty())
    writer.writerows({name: cell(value) for name, value in record.items()} for record in records)


class Lines:
    """Standard output for `csv.writer`, which quotes what holds an end of line only where it could end one itself."""

    def write(self, line: str) -> object:
        return sys.stdout.write(line.removesuffix("\r\n") + "\n")


def _cell(value: object, *, safe: bool, inert: bool) -> object:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
    if not isinstance(text, str):
        return text
    text = plain(text) if inert else text
    return f"'{text}" if safe and text.startswith(FORMULA) else text


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
