"""Inserts jobs, many at a time, past SQLAlchemy, whose own handling of each row costs more than its insert."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from msgspec import json
from sqlalchemy import Connection, insert, literal_column

from db.models import JOBS, JobState

#: Columns of a new job that hold JSON.
IN_JSON = ("tags", "noise", "template")
#: What every job begins with.
BEGINNING = {"state": f"'{JobState.QUEUED.value}'", "attempts": "0", "fence": "0"}
#: Variables of one statement: every SQLite takes them, and the driver keeps a hundred statements.
VARIABLES = 10_000

Column = list[Any]

_encode = json.Encoder().encode


def insert_jobs(connection: Connection, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Insert queued jobs; all have the same columns."""
    columns = {name: _column(name, jobs) for name in jobs[0]}
    if connection.dialect.name == "sqlite":
        _insert_at_once(connection, columns)
    else:
        _insert_each(connection, columns)


def _column(name: str, jobs: Sequence[Mapping[str, Any]]) -> Column:
    """The values as the driver takes them."""
    values = [job[name] for job in jobs]
    if name in IN_JSON:
        return [None if value is None else _encode(value).decode() for value in values]
    if name == "content_key":
        # SQLite's driver is slow to see what bytes are.
        return [value and bytearray(value) for value in values]
    return values


def _insert_at_once(connection: Connection, columns: Mapping[str, Column]) -> None:
    """As few statements as can be, since SQLite lets other threads go on during each.

    What all jobs share is given once: taking the values, None above all, costs the driver more than the insert.
    """
    # One column at least is not shared: without any there would be no rows.
    own = {name: values for name, values in columns.items() if name == "line" or not _is_one(values)}
    shared = {name: values[0] for name, values in columns.items() if name not in own}
    head = _head(shared, own)
    row = f"({', '.join('?' * len(own))})"
    size = (VARIABLES - len(shared)) // len(own)
    for start in range(0, len(columns["line"]), size):
        part = list(zip(*(values[start : start + size] for values in own.values()), strict=True))
        rows = ", ".join([row] * len(part))
        connection.exec_driver_sql(f"{head} (VALUES {rows}) AS own", (*shared.values(), *chain.from_iterable(part)))


def _head(shared: Mapping[str, Any], own: Mapping[str, Column]) -> str:
    names = ", ".join(f'"{JOBS.c[name].name}"' for name in (*shared, *own, *BEGINNING))
    values = ", ".join((*("?" * len(shared)), "own.*", *BEGINNING.values()))
    return f"INSERT INTO job ({names}) SELECT {values} FROM"


def _is_one(values: Column) -> bool:
    return values.count(values[0]) == len(values)


def _insert_each(connection: Connection, columns: Mapping[str, Column]) -> None:
    new = insert(JOBS).values({name: literal_column(value) for name, value in BEGINNING.items()})
    statement = new.compile(dialect=connection.dialect, column_keys=[*columns, *BEGINNING])
    rows = zip(*columns.values(), strict=True)
    connection.exec_driver_sql(str(statement), [dict(zip(columns, row, strict=True)) for row in rows])
