"""Jobs as a Parquet file (https://parquet.apache.org), of which every column has the type that the ledger gives it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from msgspec import json
from pyarrow.parquet import ParquetWriter
from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, String
from sqlalchemy.types import TypeEngine

from db.models import IMAGES, JOBS
from producer.history import FIELDS

GROUP = 10_000
"""Rows that are held in memory, and lie together in the file."""
TIME = pyarrow.timestamp("us", tz="UTC")
"""Of the columns that end in ``_at``."""
MICROSECONDS = 1_000_000
TYPES: tuple[tuple[type[TypeEngine[Any]], pyarrow.DataType], ...] = (
    (BigInteger, pyarrow.int64()),
    (Boolean, pyarrow.bool_()),
    (Double, pyarrow.float64()),
    (Integer, pyarrow.int32()),
    (String, pyarrow.string()),
    # Tags, versions and the like, as their text.
    (JSON, pyarrow.string()),
)

Values = Mapping[str, Any]


def write_parquet(records: Iterator[Values], path: Path) -> int:
    """Write records of `producer.history`, and return how many they are."""
    schema, written = make_schema(), 0
    with ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(records, GROUP)):
            writer.write_table(_make_table(group, schema))
            written += len(group)
    return written


def make_schema() -> pyarrow.Schema:
    """The columns that every file has, whatever jobs are in it."""
    columns = {**JOBS.columns, **{f"image_{name}": column for name, column in IMAGES.columns.items()}}
    kinds = {name: _kind(column) for name, column in columns.items() if name in FIELDS}
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in FIELDS])


def _kind(column: Column[Any]) -> pyarrow.DataType:
    if column.name.endswith("_at"):
        return TIME
    return next(kind for ours, kind in TYPES if isinstance(column.type, ours))


def _make_table(group: Sequence[Values], schema: pyarrow.Schema) -> pyarrow.Table:
    columns = (pyarrow.array(_cells(group, field), field.type) for field in schema)
    return pyarrow.Table.from_arrays(list(columns), schema=schema)


def _cells(group: Iterable[Values], field: pyarrow.Field) -> Iterator[Any]:
    values = (record[field.name] for record in group)
    if field.type == TIME:
        return (None if value is None else round(value * MICROSECONDS) for value in values)
    # What the ledger has as JSON comes as a dict.
    return (json.encode(value).decode() if isinstance(value, dict | list) else value for value in values)
