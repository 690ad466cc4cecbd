"""Copies a whole ledger into an empty one, in one transaction: it is there as a whole, or not at all."""

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec import json
from sqlalchemy import Connection, Engine, Row, Table, func, insert, select, text, tuple_

from db.errors import CopyFailed, LedgerInUse, LedgerNotEmpty
from db.models import BATCHES, HOLDS, IMAGES, JOBS, NOTICES, WORKERS, Worker, WorkerState
from db.reading import PAGE, read, snapshot

#: What is copied, each after what it refers to. Workers report to the new ledger by themselves.
TABLES = (BATCHES, JOBS, IMAGES, HOLDS, NOTICES)
#: Seconds after which a worker that has said nothing is taken for dead.
SILENCE = 60.0


class Account(NamedTuple):
    """What is in a table: how many rows, and a digest of them all."""

    rows: int
    digest: str


def copy_ledger(source: Engine, target: Engine) -> dict[str, Account]:
    """Copy all batches, jobs, images and holds, and read them back; returns what is in each table.

    Raises:
        LedgerNotEmpty: something is recorded in the target.
        CopyFailed: what was read back is not what was copied.
    """
    if read(target, select(BATCHES.c.id).limit(1)):
        raise LedgerNotEmpty("The other ledger is not empty: name a new one.")
    with snapshot(source) as origin, target.begin() as copy:
        accounts = {table.name: _copy_table(origin, copy, table) for table in TABLES}
        _raise_sequences(copy)
        found = {table.name: _count(_pages(copy, table)) for table in TABLES}
        if found != accounts:
            wrong = ", ".join(name for name in accounts if found[name] != accounts[name])
            raise CopyFailed(f"The copy of {wrong} is not what was read; nothing was kept. Try again.")
    return accounts


def refuse_workers(engine: Engine) -> None:
    """Raises LedgerInUse where workers are alive: what they record meanwhile would not be copied."""
    count = living_workers(engine)
    if count:
        raise LedgerInUse(f"Workers of this ledger are alive ({count}): stop them first, or give --while-running.")


def living_workers(engine: Engine) -> int:
    """How many workers have shown themselves lately."""
    alive = (Worker.state != WorkerState.DEAD.value, Worker.seen_at > time.time() - SILENCE)
    count: int = read(engine, select(func.count()).select_from(WORKERS).where(*alive))[0][0]
    return count


def _copy_table(origin: Connection, copy: Connection, table: Table) -> Account:
    def copied() -> Iterator[Sequence[Row[Any]]]:
        for page in _pages(origin, table):
            copy.execute(insert(table), [row._asdict() for row in page])
            yield page

    return _count(copied())


def _pages(connection: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    """All rows, page by page in the order of the key."""
    key = tuple(table.primary_key)
    statement = select(table).order_by(*key).limit(PAGE)
    page = connection.execute(statement).all()
    while page:
        yield page
        last = [getattr(page[-1], column.name) for column in key]
        page = connection.execute(statement.where(tuple_(*key) > tuple_(*last))).all()


def _count(pages: Iterator[Sequence[Row[Any]]]) -> Account:
    rows, digest, encode = 0, sha256(), json.Encoder().encode
    for page in pages:
        rows += len(page)
        for row in page:
            digest.update(encode(tuple(row)))
    return Account(rows, digest.hexdigest())


def _raise_sequences(connection: Connection) -> None:
    """PostgreSQL counts ids apart from the rows: go on after the largest."""
    if connection.dialect.name == "postgresql":
        for table in (BATCHES, JOBS, IMAGES):
            largest = connection.execute(select(func.max(table.c.id))).scalar()
            if largest:
                setval = text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :largest)")
                connection.execute(setval, {"name": table.name, "largest": largest})
