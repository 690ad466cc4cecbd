"""Inserts jobs, many at a time, past SQLAlchemy, whose own handling of each row costs more than its insert."""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from msgspec import json
from sqlalchemy import Connection, insert, literal_column
from sqlalchemy.sql.compiler import SQLCompiler

from db.models import JOBS, JobState

#: Columns of a new job that hold JSON.
IN_JSON = ("tags", "noise", "template")
#: What every job begins with.
BEGINNING = {"state": f"'{JobState.QUEUED.value}'", "attempts": "0", "fence": "0"}
#: Variables of one statement that every SQLite takes which Promptmill runs on.
VARIABLES = 32_766

Values = Mapping[str, Any]

_encode = json.Encoder().encode


def insert_jobs(connection: Connection, jobs: Sequence[Values]) -> None:
    """Insert queued jobs; all have the same columns."""
    new = insert(JOBS).values({name: literal_column(value) for name, value in BEGINNING.items()})
    statement = new.compile(dialect=connection.dialect, column_keys=[*jobs[0], *BEGINNING])
    assert isinstance(statement, SQLCompiler)
    if statement.positional:
        _insert_at_once(connection, str(statement), _in_order(jobs, statement.positiontup or ()))
    else:
        connection.exec_driver_sql(str(statement), [{**job, **_encoded(job)} for job in jobs])


def _insert_at_once(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """As few statements as can be: SQLite lets other threads go on during each of them."""
    head, _, places = statement.partition(" VALUES ")
    size = VARIABLES // len(rows[0])
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        several = ", ".join([places] * len(part))
        connection.exec_driver_sql(f"{head} VALUES {several}", tuple(chain.from_iterable(part)))


def _in_order(jobs: Sequence[Values], names: Sequence[str]) -> list[tuple[Any, ...]]:
    cells = itemgetter(*names)
    return [cells({**job, **_encoded(job)}) for job in jobs]


def _encoded(job: Values) -> dict[str, str]:
    """The columns that hold JSON, as the driver takes them."""
    return {name: _encode(job[name]).decode() for name in IN_JSON if job.get(name) is not None}
