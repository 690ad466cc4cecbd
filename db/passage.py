"""Which ids a search looks through, and in what order: a page of fifty must not cost a million rows.

What is rare is counted in its index, only so far as to see that it is rare, and then leads. Of what is common, a page
is soon found next to where it begins. For the rest the tallies tell which blocks can have any.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Engine, Select, func, select, true

from db.blocks import catch_up, stretches
from db.conditions import IN_TEXT, id_bounds, indexed, tally_conditions
from db.models import JOBS, Job
from db.reading import read, snapshot
from db.terms import Query

#: Jobs that are looked through before anything is asked of the tallies.
NEXT = 65_536
#: Jobs of one term that its index leads to. A term that has more is soon found without.
RARE = 5_000
Rows = TypeVar("Rows", bound=tuple[Any, ...])


class Stretch(NamedTuple):
    """The ids from ``low`` to ``high``, those of ``rare`` alone where there is such a select."""

    low: int
    high: int
    rare: Select[Any] | None = None
    #: Whether every job is read: there is no index that is in order of id.
    plain: bool = False

    def within(self, statement: "Select[Rows]", key: ColumnElement[int]) -> "Select[Rows]":
        """A select of jobs in this stretch alone."""
        if self.plain:
            statement = statement.with_hint(JOBS, "NOT INDEXED", "sqlite")
        near = key.between(self.low, self.high)
        return statement.where(near, true() if self.rare is None else Job.id.in_(self.rare))


def passage(engine: Engine, query: Query, after: int | None = None, *, ascending: bool = False) -> Iterator[Stretch]:
    """The stretches with all that a query may find beyond ``after``, in order."""
    low, high = _bounds(engine, query, after, ascending=ascending)
    if (rare := _rare(engine, query)) is not None:
        yield Stretch(low, high, rare)
    elif high - low < NEXT or _has_own_order(engine, query):
        yield Stretch(low, high)
    else:
        split = low + NEXT if ascending else high - NEXT
        near, rest = ((low, split), (split + 1, high)) if ascending else ((split + 1, high), (low, split))
        yield Stretch(*near, plain=True)
        yield from _further(engine, query, *rest, ascending=ascending)


def _further(engine: Engine, query: Query, low: int, high: int, *, ascending: bool) -> Iterator[Stretch]:
    holds, _ = tally_conditions(query)
    catch_up(engine)
    with snapshot(engine) as connection:
        found = stretches(connection, low, high, holds)
    # The index of the states is in order of id.
    plain = not any(term.field in ("state", "failed") for term in query.terms)
    yield from (Stretch(*ends, plain=plain) for ends in (found if ascending else found[::-1]))


def _bounds(engine: Engine, query: Query, after: int | None, *, ascending: bool) -> tuple[int, int]:
    low, high = 0, read(engine, select(func.max(Job.id)))[0][0] or 0
    if after is not None:
        low, high = (after + 1, high) if ascending else (low, min(after - 1, high))
    for span in id_bounds(query):
        low = max(low, int(span.low or 0))
        high = high if span.high is None else min(high, int(span.high))
    return low, high


def _has_own_order(engine: Engine, query: Query) -> bool:
    """Whether the database is to choose: PostgreSQL knows how common words are, and we do not."""
    return engine.dialect.name != "sqlite" and any(term.field in IN_TEXT for term in query.terms)


def _rare(engine: Engine, query: Query) -> Select[Any] | None:
    """The ids of the jobs of a term that has few."""
    for ids in indexed(query):
        some = ids.limit(RARE + 1).subquery()
        if read(engine, select(func.count()).select_from(some))[0][0] <= RARE:
            return ids
    return None
