"""Finds jobs by what is known of them: the terms of a query as conditions, and pages of what they find."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Engine, Row, Select, func, select

from db import job_text
from db.conditions import IN_TEXT, conditions
from db.job_text import ROWID
from db.models import BATCHES, IMAGES, JOBS, Batch, Image, Job
from db.orders import ORDERS, Page, Place, page
from db.passage import Words, passage
from db.reading import read_by_values
from db.terms import Query, Span, Term, Value, term

__all__ = ["ORDERS", "Place", "Query", "Span", "Term", "Value", "count", "find", "prepare", "term", "with_image"]


def find(
    engine: Engine,
    query: Query,
    *,
    limit: int,
    after: Place | None = None,
    sort: str = "id",
    ascending: bool = False,
) -> Sequence[Row[Any]]:
    """Jobs with their images, in order; ``after`` is where the page before ended. Each row has its ``place``."""
    prepare(engine, query)
    statement = with_image(ORDERS[sort].value.label("place"))
    if sort == "id":
        return _in_order(engine, query, statement, limit, after, ascending=ascending)
    return page(engine, statement, Page(query, sort, limit, after, ascending))


def _in_order(
    engine: Engine, query: Query, statement: Select[Any], limit: int, after: Place | None, *, ascending: bool
) -> list[Row[Any]]:
    """A page in order of id, from one stretch after the other."""
    asked = _ask(engine, query, statement)
    ordered = asked.statement.order_by(asked.key.asc() if ascending else asked.key.desc())
    last = after.job_id if after else None
    found: list[Row[Any]] = []
    for stretch in passage(engine, query, asked.words, led=asked.led, after=last, ascending=ascending):
        found += read_by_values(engine, stretch.within(ordered, asked.key).limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


def count(engine: Engine, query: Query, at_most: int = 10_000) -> int:
    """How many jobs a query finds; no more are counted than so many."""
    prepare(engine, query)
    asked = _ask(engine, query, select(Job.id).outerjoin(IMAGES, Image.job_id == Job.id))
    found = 0
    for stretch in passage(engine, query, asked.words, led=asked.led):
        some = stretch.within(asked.statement, asked.key).limit(at_most - found)
        found += read_by_values(engine, select(func.count()).select_from(some.subquery()))[0][0]
        if found == at_most:
            break
    return found


class Asked(NamedTuple):
    """A select of jobs with the terms of a query, the id that it is in order of, and words still to be asked for."""

    statement: Select[Any]
    key: ColumnElement[int]
    words: Sequence[Words] = ()
    #: Whether the index that leads has no others beside the jobs that are found.
    led: bool = False


def _ask(engine: Engine, query: Query, statement: Select[Any]) -> Asked:
    """Let the index of words lead, where words are wanted.

    That of SQLite is in order of id, so a page of common ones costs no more than itself.
    """
    leading = tuple(term for term in query.terms if _can_lead(term))
    if not leading:
        return Asked(statement.where(*conditions(engine, query)), Job.id)
    if engine.dialect.name == "sqlite":
        leading += tuple(term for term in query.terms if _can_lead(term, excluded=True))
    rest = Query(tuple(term for term in query.terms if term not in leading))
    statement = statement.where(*conditions(engine, rest))
    if engine.dialect.name != "sqlite":
        ways = (conditions(engine, Query(leading), one_by_one=way) for way in (False, True))
        return Asked(statement, Job.id, [Words(*some) for some in zip(*ways, strict=True)])
    phrases = [(IN_TEXT[term.field], [str(span.low) for span in term.wanted], term.excluded) for term in leading]
    return Asked(job_text.listed(statement, phrases), ROWID, led=not rest.terms)


def _can_lead(term: Term, *, excluded: bool = False) -> bool:
    words = term.field in IN_TEXT and term.excluded == excluded
    return words and all(any(map(str.isalnum, str(span.low))) for span in term.wanted)


def prepare(engine: Engine, query: Query) -> None:
    """Bring the index of words up to date where the query asks for any: nothing recorded by now is missed."""
    if any(term.field in IN_TEXT for term in query.terms):
        job_text.catch_up(engine)


def with_image(*more: ColumnElement[Any]) -> Select[Any]:
    """Jobs with the ``batch``'s name and the image's columns, which begin with ``image_``."""
    image = [column.label(f"image_{column.name}") for column in IMAGES.columns if column.name not in ("id", "job_id")]
    statement = select(JOBS, Batch.name.label("batch"), *image, *more).join(BATCHES, Batch.id == Job.batch_id)
    return statement.outerjoin(IMAGES, Image.job_id == Job.id)
