"""How the ledger is read: statements whose transaction ends before anything is done with the rows."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, text
from sqlalchemy.sql import Executable

from db.models import Job

#: Rows fetched at a time where all are wanted: a long read keeps SQLite from shortening its log.
PAGE = 1000


def read(engine: Engine, statement: Executable) -> Sequence[Row[Any]]:
    """All rows of a select."""
    with engine.connect().execution_options(readonly=True) as connection:
        return connection.execute(statement).all()


def read_by_values(engine: Engine, statement: Executable) -> Sequence[Row[Any]]:
    """All rows of a select that is planned for its values: PostgreSQL would soon plan it once, for any."""
    with engine.connect().execution_options(readonly=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
        return connection.execute(statement).all()


def guess(engine: Engine, statement: Select[Any]) -> float:
    """How many rows PostgreSQL expects of a select; 0 in SQLite, which does not say."""
    if engine.dialect.name != "postgresql":
        return 0.0
    compiled = statement.compile(engine, compile_kwargs={"render_postcompile": True})
    with engine.connect().execution_options(readonly=True) as connection:
        plan: Any = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", compiled.params).scalar()
    return float(plan[0]["Plan"]["Plan Rows"])


def snapshot(engine: Engine) -> Connection:
    """A connection that sees the ledger as it is now, whatever is written meanwhile."""
    connection = engine.connect().execution_options(readonly=True)
    if engine.dialect.name == "postgresql":
        return connection.execution_options(isolation_level="REPEATABLE READ")
    return connection


def paged(engine: Engine, statement: Select[Any], last: int = 0) -> Iterator[Row[Any]]:
    """The rows beyond ``last`` of a select that has ``Job.id`` first, with no transaction open between pages."""
    while page := read(engine, statement.where(Job.id > last).order_by(Job.id).limit(PAGE)):
        yield from page
        last = page[-1][0]
