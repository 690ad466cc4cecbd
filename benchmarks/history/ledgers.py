"""Ledgers to measure: a large one and a small one in each database, built once and kept where that is asked for."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
from msgspec import json
from sqlalchemy import text

from benchmarks.history.drawn import BATCH, Drawn, facts
from db import blocks, job_text
from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from tests.postgres import Server, programs

#: Rows of a transaction, and jobs of the small ledger.
SLICE = 10_000
#: Of a server with memory, that keeps what it is told.
SERVER = ("shared_buffers=1GB", "autovacuum=off")


class Pair(NamedTuple):
    """Two ledgers in one database."""

    large: Ledger
    small: Ledger

    @property
    def database(self) -> str:
        return self.large.engine.dialect.name


@contextmanager
def pairs(jobs: int, folder: Path | None) -> Iterator[Iterator[Pair]]:
    """The ledgers in each database there is, one database after the other; kept in ``folder``, if one is given."""
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promptmill-bench-")))
        place.mkdir(parents=True, exist_ok=True)
        if not folder:
            # PostgreSQL runs as somebody else, and must get there.
            place.chmod(0o711)
        yield _pairs(stack, place, jobs)


def _pairs(stack: ExitStack, place: Path, jobs: int) -> Iterator[Pair]:
    names = (f"large_{jobs}", f"small_{jobs}")
    yield _opened([f"sqlite:///{place}/{name}.sqlite3" for name in names], place, jobs)
    if at := programs():
        server = stack.enter_context(Server(at, SERVER, place / "postgresql"))
        yield _opened([server.database(name) for name in names], place, jobs)
    else:
        click.echo("PostgreSQL is not installed here, and left out.")


def _opened(urls: Sequence[str], place: Path, jobs: int) -> Pair:
    pair = Pair(*map(open_ledger, urls))
    built = place / f"{pair.database}_{jobs}.built"
    if not built.exists():
        _build(pair, jobs)
        built.touch()
    return pair


def _build(pair: Pair, jobs: int) -> None:
    """Fill the ledgers; in the large one of SQLite the peer's table, too."""
    peer = pair.database == "sqlite"
    if peer:
        execute(pair.large, "CREATE TABLE peer (id INTEGER PRIMARY KEY, created_at REAL, facts TEXT)")
        execute(pair.large, "CREATE INDEX peer_created ON peer (created_at)")
    built = seconds(lambda: _fill(pair.large, Drawn(jobs), jobs, peer=peer))
    _fill(pair.small, Drawn(jobs), SLICE, peer=False)
    vacuum(pair.large)
    words, tallies = (
        seconds(partial(catch_up, pair.large.engine)) for catch_up in (job_text.catch_up, blocks.catch_up)
    )
    click.echo(f"built in {built:.0f} s; first search: words {words:.1f} s, tallies {tallies:.1f} s")


def _fill(ledger: Ledger, draw: Drawn, last: int, *, peer: bool) -> None:
    """Jobs that have ended, with their images; for a peer too."""
    for start in range(1, last + 1, SLICE):
        batch_id = create_batch(ledger)
        ledger.open_batch(batch_id)
        numbers = range(start, min(start + SLICE, last + 1))
        jobs = [{**draw.job(number), "batch_id": batch_id} for number in numbers]
        images = {job["id"]: draw.image(job["id"]) for job in jobs if job["state"] == "succeeded"}
        _load(ledger, "job", jobs)
        _load(ledger, "image", list(images.values()))
        if peer:
            _load(ledger, "peer", [facts(job, images.get(job["id"], {})) for job in jobs])
    if ledger.engine.dialect.name == "postgresql":
        execute(ledger, f"SELECT setval('job_id_seq', {last})")


def _load(ledger: Ledger, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write many rows in the shortest way that the database has."""
    names = ", ".join(rows[0])
    values = [tuple(json.encode(v).decode() if isinstance(v, dict) else v for v in row.values()) for row in rows]
    with ledger.engine.begin() as connection:
        if ledger.engine.dialect.name == "sqlite":
            places = ", ".join("?" * len(rows[0]))
            connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608 - names of ours
            return
        driver: Any = connection.connection.driver_connection
        with driver.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in values:
                copy.write_row(row)


def create_batch(ledger: Ledger) -> int:
    new = NewBatch(name="bench.csv", slug="bench", source_sha256="0" * 64, image_format="png", total=BATCH)
    return ledger.create_batch(new)


def execute(ledger: Ledger, statement: str) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(text(statement))


def vacuum(ledger: Ledger) -> None:
    """What a server does by itself after many changes, done at once, so that it falls in no measurement."""
    if ledger.engine.dialect.name == "postgresql":
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun
