"""Text for people and for programs: aligned columns, JSON lines, CSV."""

import csv
import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: What a cell is cut to where the output is no terminal with a width.
WIDE = 10_000


def plain(text: str) -> str:
    """The text without control characters, which could write over a terminal or change its settings."""
    return "".join(c if c.isprintable() else " " for c in text)


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
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name.ljust(width)}  {plain(str(value))}")


def print_json_lines(records: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    for record in records:
        print(json.dumps(record, ensure_ascii=False))


def print_csv(names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in records)


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
