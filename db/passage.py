"""Which ids a search looks through, and in what order: a page of fifty must not cost a million rows.

What is rare is counted in its index, only so far as to see that it is rare, and then leads. Of what is common, a page
is soon found next to where it begins. For the rest the tallies tell which blocks can have any. PostgreSQL is asked
first how many it expects, by its statistics: a wrong guess makes a search slower, and finds the same.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Engine, Row, Select, and_, any_, func, literal, select, true

from db.blocks import catch_up, stretches
from db.conditions import id_bounds, indexed, tally_conditions
from db.models import JOBS, Job
from db.reading import guess, read, read_by_values, snapshot
from db.terms import Query

#: Jobs that are looked through before anything is asked of the tallies.
NEXT = 16_384
#: Jobs of one term that its index leads to. A term that has more is soon found without.
RARE = 5_000
#: The same of words in PostgreSQL. Those of the first are read one by one, which is slow there.
WORDS_NEXT, WORDS_RARE = (1024, 8192, 65_536), 1_500
#: How many times as many may be expected of what is still counted.
DOUBT = 16
Rows = TypeVar("Rows", bound=tuple[Any, ...])


class Words(NamedTuple):
    """That a job has some words: as the index of words tells it, and as the job's row does."""

    indexed: ColumnElement[bool]
    one_by_one: ColumnElement[bool]


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
    words: Sequence[Words] = (),
    *,
    led: bool = False,
    after: int | None = None,
    ascending: bool = False,
) -> Iterator[Stretch]:
    """The stretches with all that a query may find beyond ``after``, in order.

    ``words`` are what the stretches are to ask too, in the way that suits each. There is but one where the search is
    led to nothing but what it finds, in order.
    """
    low, high = bounds(engine, query, after, ascending=ascending)
    rare = None if led else _rare(engine, query, low, high)
    if rare is not None:
        yield Stretch(low, high, and_(rare, *(some.one_by_one for some in words)))
    elif words:
        yield from _by_words(engine, words, low, high, ascending=ascending)
    elif led or high - low < NEXT:
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


def _by_words(engine: Engine, words: Sequence[Words], low: int, high: int, *, ascending: bool) -> Iterator[Stretch]:
    """In PostgreSQL, which would read a million prompts in order of id where it takes words for common."""
    if (rare := _rarest(engine, words, low, high)) is not None:
        yield Stretch(low, high, rare)
        return
    every = and_(*(some.indexed for some in words))
    for number, size in enumerate(WORDS_NEXT):
        near, (low, high) = _cut(low, high, size, ascending=ascending)
        read = and_(*(some.one_by_one for some in words))
        yield Stretch(*near, Job.id.in_(_with_words(every, *near)) if number else read)
        if low > high:
            return
        if number == 1 and (few := _few(engine, _with_words(every, low, high), WORDS_RARE)) is not None:
            yield Stretch(low, high, few)
            return
    yield Stretch(low, high, Job.id.in_(_with_words(every, low, high)))


def _rarest(engine: Engine, words: Sequence[Words], low: int, high: int) -> ColumnElement[bool] | None:
    """That a job is one of those of the rarest words, if those are few, and has the others."""
    some = {number: _with_words(one.indexed, low, high) for number, one in enumerate(words)}
    expected, rarest = min((guess(engine, ids), number) for number, ids in some.items())
    few = _few(engine, some[rarest], WORDS_RARE) if expected <= WORDS_RARE * DOUBT else None
    if few is None:
        return None
    return and_(few, *(one.one_by_one for number, one in enumerate(words) if number != rarest))


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


def bounds(engine: Engine, query: Query, after: int | None = None, *, ascending: bool = False) -> tuple[int, int]:
    """Between which ids the jobs are that a query may find beyond ``after``."""
    low, high = 0, read(engine, select(func.max(Job.id)))[0][0] or 0
    if after is not None:
        low, high = (after + 1, high) if ascending else (low, min(after - 1, high))
    for span in id_bounds(query):
        low = max(low, int(span.low or 0))
        high = high if span.high is None else min(high, int(span.high))
    return low, high


def _rare(engine: Engine, query: Query, low: int, high: int) -> ColumnElement[bool] | None:
    """That a job is one of those of a term that has few."""
    likely = (ids for ids in indexed(query, low, high) if guess(engine, ids) <= RARE * DOUBT)
    found = (_few(engine, ids, RARE) for ids in likely)
    return next((few for few in found if few is not None), None)


def _few(engine: Engine, ids: Select[Any], most: int) -> ColumnElement[bool] | None:
    """That a job is one of these, if they are so few."""
    some = select(ids.subquery()).limit(most + 1)
    if engine.dialect.name == "sqlite":
        jobs = read(engine, select(func.count()).select_from(some.subquery()))[0][0]
        return listed(engine, ids) if jobs <= most else None
    found = read_by_values(engine, some)
    return _one_of(found) if len(found) <= most else None


def listed(engine: Engine, ids: Select[Any]) -> ColumnElement[bool]:
    """That a job is one of these few."""
    # PostgreSQL may go through the whole ledger for a subquery, and not for a list.
    return Job.id.in_(ids) if engine.dialect.name == "sqlite" else _one_of(read_by_values(engine, ids))


def _one_of(rows: Sequence[Row[Any]]) -> ColumnElement[bool]:
    return Job.id == any_(literal([row[0] for row in rows], ARRAY(BigInteger)))
