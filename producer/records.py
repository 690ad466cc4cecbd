"""Records of a prompt file: cells under their columns, from tables, plain text and JSON lines."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial

from configs.errors import InvalidParameter
from configs.parameters import read_text
from producer.columns import Column, make_column, make_columns, means_prompt, repeated
from producer.option_lines import has_options, read_options
from producer.problems import Report
from producer.source import Source

Cells = Iterable[tuple[Column, object]]
Record = tuple[int, Cells]
"""The line where it starts, and its cells."""

DELIMITERS = {".tsv": "\t", ".tab": "\t", ".csv": ",", ".psv": "|"}
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
OBJECT = re.compile(r'\s*\{\s*["}]')
"""Not only a brace: with that a plain prompt may begin."""


def read_records(source: Source, report: Report) -> Iterator[Record]:
    """All records of the file, in the format it is found to have. What is no record is reported."""
    head, suffix = source.first_line(), source.suffix
    if suffix not in (*DELIMITERS, *JSON_SUFFIXES) and has_options(head):
        return _text_records(source, report)
    if suffix in JSON_SUFFIXES or (suffix not in (*DELIMITERS, ".txt") and OBJECT.match(head)):
        return _json_records(source, report)
    delimiter = None if suffix == ".txt" else _find_delimiter(head, suffix)
    return _table_records(source, delimiter, report) if delimiter else _text_records(source, report)


def _find_delimiter(head: str, suffix: str) -> str | None:
    """The delimiter under which the header has a prompt column, and the most columns; None for plain text."""
    own = DELIMITERS.get(suffix)
    candidates = sorted(",\t;|", key=lambda delimiter: delimiter != own)
    cells = {delimiter: _split(head, delimiter) for delimiter in candidates}
    fitting = [delimiter for delimiter in candidates if any(map(means_prompt, cells[delimiter]))]
    if not fitting and own is None:
        return None
    return max(fitting or candidates, key=lambda delimiter: len(cells[delimiter]))


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _text_records(source: Source, report: Report) -> Iterator[Record]:
    column = make_column("prompt", source.folder)
    for number, line in enumerate(source.lines(report), 1):
        if has_options(line):
            try:
                yield number, read_options(line, source.folder)
            except InvalidParameter as error:
                report.add(number, "", str(error))
        elif not line.isspace():
            yield number, ((column, line.rstrip("\r\n")),)


def _table_records(source: Source, delimiter: str, report: Report) -> Iterator[Record]:
    rows = _rows(source, delimiter, report)
    header_line, headings = next(rows, (0, []))
    columns = make_columns(headings, source.folder, header_line, report) if headings else None
    if columns is None:
        return
    width = len(columns)
    for line, cells in rows:
        if len(cells) == width:
            yield line, zip(columns, cells, strict=True)
        else:
            report.add(line, "", _miscounted(len(cells), width))


def _rows(source: Source, delimiter: str, report: Report) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that are not blank, each with the line where it starts."""
    reader = csv.reader(source.lines(report), delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = _literal_cells(source.last, delimiter) if reader.line_num == start else []
            if not cells:
                report.add(start, "", _misquoted(error))
            if "expected after" not in str(error):
                return
        if any(map(str.strip, cells)):
            yield start, cells


def _literal_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line whose quotes are part of its text; none where some of them are not.

    Many tools write tab-separated files so: ``"Stop" on a sign``.
    """
    cells = line.rstrip("\r\n").split(delimiter)
    return [] if any(cell.startswith('"') and cell.rstrip().endswith('"') for cell in cells) else cells


def _miscounted(found: int, wanted: int) -> str:
    advice = "quote cells that hold the delimiter" if found > wanted else "add the missing delimiters"
    return f"has {found} {'cell' if found == 1 else 'cells'} where the header has {wanted}; {advice}"


def _misquoted(error: csv.Error) -> str:
    if "expected after" in str(error):
        return 'has text after a closing quote; write a quote inside a quoted cell twice ("")'
    if "larger than" in str(error):
        return f"has a cell of over {csv.field_size_limit()} characters: a quote that is opened here is not closed"
    return "has a quote that is opened and not closed; close it, so that the rows after it can be read"


def _json_records(source: Source, report: Report) -> Iterator[Record]:
    column_of = lru_cache(maxsize=1024)(partial(_json_column, source))
    for number, line in enumerate(source.lines(report), 1):
        if line.isspace():
            continue
        try:
            cells = _json_cells(line, column_of)
        except InvalidParameter as error:
            report.add(number, "", str(error))
            continue
        for column, message in repeated(column for column, _ in cells):
            report.add(number, column, message)
        yield number, cells


def _json_column(source: Source, key: str) -> Column:
    if not key.strip():
        raise InvalidParameter("has a member without a name; give it one, or remove it")
    return make_column(read_text(key), source.folder)


def _json_cells(line: str, column_of: Callable[[str], Column]) -> list[tuple[Column, object]]:
    """The members of the object on a line. Raises InvalidParameter."""
    try:
        members = json.loads(line, object_pairs_hook=list) if line.lstrip().startswith("{") else None
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"is not valid JSON: {error}; one object a line is needed") from error
    if members is None:
        raise InvalidParameter(f"{line.strip()!r:.60} is not an object; one object a line is needed")
    return [(column_of(key), value) for key, value in members]
