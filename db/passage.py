"""Which ids a search looks through, and in what order: a page of fifty must not cost a million rows.

What is rare is counted in its index, only so far as to see that it is rare, and then leads. Of what is common, a page
is soon found next to where it begins. For the rest the tallies tell which blocks can have any.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Engine, Select, and_, any_, func, literal, select, true

from db.blocks import catch_up, stretches
from db.conditions import id_bounds, indexed, tally_conditions
from db.models import JOBS, Job
from db.reading import read, read_by_values, snapshot
from db.terms import Query

#: Jobs that are looked through before anything is asked of the tallies.
NEXT = 65_536
#: Jobs of one term that its index leads to. A term that has more is soon found without.
RARE = 5_000
#: The same of words in PostgreSQL. Those of the first are read one by one, which is slow there.
WORDS_NEXT, WORDS_RARE = (512, 8192, 65_536), 1_500
Rows = TypeVar("Rows", bound=tuple[Any, ...])


class Stretch(NamedTuple):
    """The ids from ``low`` to ``high``, and what is asked of them beside the query."""

    low: int
    high: int
    among: ColumnElement[bool] = true()
    #: Whether every job is read: there is no index that is in order of id.
    plain: bool = False

    def within(self, statement: "Select[Rows]", key: ColumnElement[int]) -> "Select[Rows]":
        """A select of jobs in this stretch alone."""
        if self.plain:
            statement = statement.with_hint(JOBS, "NOT INDEXED", "sqlite")
        return statement.where(key.between(self.low, self.high), self.among)


def passage(
    engine: Engine,
    query: Query,
    words: ColumnElement[bool] | None = None,
    *,
    after: int | None = None,
    ascending: bool = False,
) -> Iterator[Stretch]:
    """The stretches with all that a query may find beyond ``after``, in order.

    ``words`` is what the stretches are to ask too, in the way that suits each.
    """
    low, high = _bounds(engine, query, after, ascending=ascending)
    if (rare := _rare(engine, query, low, high)) is not None:
        yield Stretch(low, high, rare if words is None else and_(words, rare))
    elif words is not None:
        yield from _by_words(engine, words, low, high, ascending=ascending)
    elif high - low < NEXT:
        yield Stretch(low, high)
    else:
        near, rest = _cut(low, high, NEXT, ascending=ascending)
        yield Stretch(*near, plain=True)
        yield from _further(engine, query, *rest, ascending=ascending)


def _cut(low: int, high: int, size: int, *, ascending: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """The next ids, and the others."""
    if ascending:
        return (low, min(low + size - 1, high)), (low + size, high)
    return (max(high - size + 1, low), high), (low, high - size)


def _by_words(engine: Engine, words: ColumnElement[bool], low: int, high: int, *, ascending: bool) -> Iterator[Stretch]:
    """In PostgreSQL, which would read a million prompts in order of id where it takes words for common."""
    for number, size in enumerate(WORDS_NEXT):
        near, (low, high) = _cut(low, high, size, ascending=ascending)
        yield Stretch(*near, Job.id.in_(_with_words(words, *near)) if number else words)
        if low > high:
            return
        if number == 1:
            few = _few(engine, _with_words(words, low, high), WORDS_RARE)
            if few is not None:
                yield Stretch(low, high, few)
                return
    yield Stretch(low, high, Job.id.in_(_with_words(words, low, high)))


def _with_words(words: ColumnElement[bool], low: int, high: int) -> Select[Any]:
    # The offset keeps the database from anything but its index of words.
    return select(Job.id).where(words, Job.id.between(low, high)).offset(0)


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


def _rare(engine: Engine, query: Query, low: int, high: int) -> ColumnElement[bool] | None:
    """That a job is one of those of a term that has few."""
    found = (_few(engine, ids, RARE) for ids in indexed(query, low, high))
    return next((few for few in found if few is not None), None)


def _few(engine: Engine, ids: Select[Any], most: int) -> ColumnElement[bool] | None:
    """That a job is one of these, if they are so few."""
    some = select(ids.subquery()).limit(most + 1)
    if engine.dialect.name == "sqlite":
        jobs = read(engine, select(func.count()).select_from(some.subquery()))[0][0]
        return Job.id.in_(ids) if jobs <= most else None
    # PostgreSQL may go through the whole ledger for a subquery, and not for a list.
    listed = [row[0] for row in read_by_values(engine, some)]
    return Job.id == any_(literal(listed, ARRAY(BigInteger))) if len(listed) <= most else None
