"""Pages in another order than that of ids.

What a query finds few of is found first, and then put in order. For the rest the index of the order is followed, and
of its next thousands of jobs those are kept that the query asks for. Only if they do not fill a page, or there is no
such index, all is found and put in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Engine, Row, Select, and_, false, func, or_, select, tuple_

from db import job_text
from db.blocks import catch_up, stretches
from db.conditions import IN_TEXT, conditions, indexed, tally_conditions, within
from db.models import IMAGES, Image, Job
from db.passage import bounds, listed
from db.reading import guess, read, read_by_values, snapshot
from db.terms import Query, Value

#: Jobs that the index of an order is followed for, in turns.
FOLLOWED = (1024, 4096, 16_384)
#: Jobs that are found first, and then put in order.
FEW = 20_000
#: Stretches of ids that are named to the database.
PARTS = 16


class Order(NamedTuple):
    """The value that jobs are in order by, 0 where a job has none; and the value and the job's id in an index."""

    value: ColumnElement[Any]
    along: tuple[ColumnElement[Any], ColumnElement[int]] | None = None
    #: Whether jobs without a value are not in the index.
    partial: bool = False


ORDERS: Mapping[str, Order] = {
    "id": Order(Job.id),
    "seed": Order(Job.seed),
    **{name: Order(Job[name], (Job[name], Job.id)) for name in ("steps", "scale")},
    "finished": Order(func.coalesce(Job.finished_at, 0.0), (Job.finished_at, Job.id), partial=True),
    "took": Order(func.coalesce(Image.seconds, 0.0), (Image.seconds, Image.job_id), partial=True),
    "bytes": Order(func.coalesce(Image.bytes, 0), (Image.bytes, Image.job_id), partial=True),
}


@dataclass(frozen=True)
class Place:
    """Where a page ended: the value it is in order by, and the id of its last job."""

    value: Value
    job_id: int


class Page(NamedTuple):
    """What is asked for."""

    query: Query
    sort: str
    limit: int
    after: Place | None
    ascending: bool

    @property
    def order(self) -> Order:
        return ORDERS[self.sort]

    def keys(self, *columns: ColumnElement[Any]) -> Iterator[ColumnElement[Any]]:
        return (column.asc() if self.ascending else column.desc() for column in columns)

    def sorted(self, statement: Select[Any]) -> Select[Any]:
        """In order, without an index: a database may follow that for ever, to find a few."""
        return statement.order_by(*self.keys(self.order.value + 0, Job.id)).limit(self.limit)


def page(engine: Engine, statement: Select[Any], asked: Page) -> Sequence[Row[Any]]:
    """The rows of a page; ``statement`` is a select of jobs, outer-joined with their images."""
    low, high = bounds(engine, asked.query)
    near = _stretches(engine, asked.query, low, high) if asked.query.terms else [(low, high)]
    if sum(last - first for first, last in near) >= FEW and not _finds_few(engine, asked.query, low, high):
        found = _follow(engine, statement, asked)
        if len(found) == asked.limit:
            return found
    return read_by_values(engine, asked.sorted(statement.where(Job.id.in_(_chosen(engine, asked, near)))))


def _stretches(engine: Engine, query: Query, low: int, high: int) -> Sequence[tuple[int, int]]:
    """The ids among which the tallies leave any."""
    holds, _ = tally_conditions(query)
    catch_up(engine)
    with snapshot(engine) as connection:
        return stretches(connection, low, high, holds)


def _finds_few(engine: Engine, query: Query, low: int, high: int) -> bool:
    words = (term for term in query.terms if term.field in IN_TEXT and not term.excluded)
    with_words = (job_text.ids(engine, IN_TEXT[term.field], [str(span.low) for span in term.wanted]) for term in words)
    return any(_are_few(engine, ids) for ids in (*indexed(query, low, high), *with_words))


def _are_few(engine: Engine, ids: Select[Any]) -> bool:
    if engine.dialect.name == "postgresql":
        return guess(engine, ids) <= FEW
    some = ids.limit(FEW + 1).subquery()
    return int(read(engine, select(func.count()).select_from(some))[0][0]) <= FEW


def _follow(engine: Engine, statement: Select[Any], asked: Page) -> list[Row[Any]]:
    """The first of a page, as far as the index is followed."""
    found: list[Row[Any]] = []
    passed = 0
    # The jobs are read one by one, so whatever else is asked of them is told by themselves.
    wanted = statement.where(*conditions(engine, asked.query, one_by_one=True))
    for size in FOLLOWED if _can_follow(asked) else ():
        ids = _next(asked, passed, size if asked.query.terms else asked.limit)
        rest = asked._replace(limit=asked.limit - len(found))
        # Somebody may record a job meanwhile, and push one that is found already into the next turn.
        new = wanted.where(Job.id.not_in([row.id for row in found]), listed(engine, ids))
        found += read_by_values(engine, rest.sorted(new))
        if len(found) == asked.limit or not asked.query.terms:
            break
        passed += size
    return found


def _can_follow(asked: Page) -> bool:
    # Those without a value come first in ascending order.
    first = asked.ascending and not (asked.after and asked.after.value)
    return asked.order.along is not None and not (asked.order.partial and first)


def _next(asked: Page, passed: int, size: int) -> Select[Any]:
    """The ids of the next jobs in the index."""
    assert asked.order.along is not None
    value, job_id = asked.order.along
    ids = select(job_id).order_by(*asked.keys(value, job_id)).offset(passed).limit(size).correlate(None)
    ids = ids.where(*within(asked.query, asked.sort))
    if asked.order.partial:
        ids = ids.where(value > 0)
    if asked.after is None:
        return ids
    here, end = tuple_(value, job_id), tuple_(asked.after.value, asked.after.job_id)
    return ids.where(here > end if asked.ascending else here < end)


def _chosen(engine: Engine, asked: Page, near: Sequence[tuple[int, int]]) -> Select[Any]:
    """The ids of a page, of all that the query finds."""
    # The ids alone are put in order: the rest of the rows would have to be read for every job that is passed over.
    chosen = select(Job.id).outerjoin(IMAGES, Image.job_id == Job.id).where(*conditions(engine, asked.query))
    if asked.query.terms and len(near) <= PARTS:
        chosen = chosen.where(or_(false(), *(Job.id.between(*ends) for ends in near)))
    if asked.after is not None:
        chosen = chosen.where(_beyond(asked.order.value, asked.after, ascending=asked.ascending))
    return asked.sorted(chosen).correlate(None)


def _beyond(order: ColumnElement[Any], after: Place, *, ascending: bool) -> ColumnElement[bool]:
    further = order > after.value if ascending else order < after.value
    later = Job.id > after.job_id if ascending else Job.id < after.job_id
    return or_(further, and_(order == after.value, later))
