"""Finds jobs by what is known of them: the terms of a query as conditions, and pages of what they find."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, and_, false, func, not_, or_, select, text

from db.job_text import ROWID, catch_up, listed, words_match
from db.models import BATCHES, IMAGES, JOBS, Batch, Image, Job, JobState
from db.reading import read

Value = int | float | str
#: Written as the partial index of the flags has it: with a bound value the index is not used.
FLAGGED = text("flagged IS NOT NULL")


@dataclass(frozen=True)
class Span:
    """Values from ``low`` to ``high``; None is an open end, and a strict one is not within."""

    low: Value | None = None
    high: Value | None = None
    strict: bool = False


@dataclass(frozen=True)
class Term:
    """One thing that is asked of a job: a field has one of the values. An excluded term must not hold.

    The field ``text`` is full text over prompt and negative prompt; ``tag.NAME`` is a column that is no parameter.
    """

    field: str
    wanted: tuple[Span, ...]
    excluded: bool = False


@dataclass(frozen=True)
class Query:
    """Terms that must all hold; without any, every job is found."""

    terms: tuple[Term, ...] = ()

    def __add__(self, other: "Query") -> "Query":
        return Query(self.terms + other.terms)


def term(field: str, value: Value) -> Term:
    """One value, and nothing else."""
    return Term(field, (Span(value, value),))


#: The fields that are columns.
COLUMNS: Mapping[str, ColumnElement[Any]] = {
    **{name: Job[name] for name in ("id", "seed", "steps", "scale", "width", "height", "strength", "eta")},
    **{name: Job[name] for name in ("sampler", "model", "worker", "attempts")},
    "took": Image.seconds,
    "finished": Job.finished_at,
}
#: What a listing can be put in order by.
ORDERS: Mapping[str, ColumnElement[Any]] = {
    **{name: Job[name] for name in ("id", "seed", "steps", "scale")},
    "finished": func.coalesce(Job.finished_at, 0.0),
    "took": func.coalesce(Image.seconds, 0.0),
    "bytes": func.coalesce(Image.bytes, 0),
}
IN_TEXT = {"text": ("prompt", "negative_prompt"), "prompt": ("prompt",), "negative": ("negative_prompt",)}


@dataclass(frozen=True)
class Place:
    """Where a page ended: the value it is in order by, and the id of its last job."""

    value: Value
    job_id: int


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
    order = ORDERS[sort]
    leading = _leading(engine, query) if sort == "id" else ()
    rest = Query(tuple(term for term in query.terms if term not in leading))
    statement = with_image(order.label("place")).where(*conditions(engine, rest))
    if leading:
        asked = [(IN_TEXT[term.field], [str(span.low) for span in term.wanted]) for term in leading]
        statement, order = listed(statement, asked), ROWID
    if after is not None:
        statement = statement.where(_beyond(order, after, ascending))
    keys = (order,) if sort == "id" else (order, Job.id)
    ordered = statement.order_by(*(key.asc() if ascending else key.desc() for key in keys))
    return read(engine, ordered.limit(limit))


def _leading(engine: Engine, query: Query) -> tuple[Term, ...]:
    """The words that SQLite can find in order of id: a page of common ones costs no more than itself."""
    if engine.dialect.name != "sqlite":
        return ()
    words = (term for term in query.terms if term.field in IN_TEXT and not term.excluded)
    return tuple(term for term in words if all(any(map(str.isalnum, str(span.low))) for span in term.wanted))


def prepare(engine: Engine, query: Query) -> None:
    """Bring the index of words up to date where the query asks for any: nothing recorded by now is missed."""
    if any(term.field in IN_TEXT for term in query.terms):
        catch_up(engine)


def with_image(*more: ColumnElement[Any]) -> Select[Any]:
    """Jobs with the ``batch``'s name and the image's columns, which begin with ``image_``."""
    image = [column.label(f"image_{column.name}") for column in IMAGES.columns if column.name not in ("id", "job_id")]
    statement = select(JOBS, Batch.name.label("batch"), *image, *more).join(BATCHES, Batch.id == Job.batch_id)
    return statement.outerjoin(IMAGES, Image.job_id == Job.id)


def conditions(engine: Engine, query: Query) -> Iterator[ColumnElement[bool]]:
    """What must hold of ``job``, outer-joined with ``image``."""
    for term in query.terms:
        holds = or_(*(_condition(engine, term.field, span) for span in term.wanted))
        # What is not known does not hold.
        yield not_(func.coalesce(holds, false())) if term.excluded else holds


def _condition(engine: Engine, field: str, span: Span) -> ColumnElement[bool]:
    if field in IN_TEXT:
        return words_match(engine, IN_TEXT[field], str(span.low))
    if field.startswith("tag."):
        tag: ColumnElement[str] = Job.tags[field.removeprefix("tag.")].as_string()
        return tag == str(span.low)
    if field in COLUMNS:
        return _within(COLUMNS[field], span)
    return SPECIAL[field](span)


def _within(column: ColumnElement[Any], span: Span) -> ColumnElement[bool]:
    if span.low == span.high and not span.strict:
        return column == span.low
    above = [] if span.low is None else [column > span.low if span.strict else column >= span.low]
    below = [] if span.high is None else [column < span.high if span.strict else column <= span.high]
    return and_(*above, *below)


def _batch(span: Span) -> ColumnElement[bool]:
    if isinstance(span.low, str):
        return Job.batch_id.in_(select(Batch.id).where(Batch.name == span.low))
    return _within(Job.batch_id, span)


def _flagged(span: Span) -> ColumnElement[bool]:
    if span.low in ("yes", "no"):
        flagged = Job.id.in_(select(Image.job_id).where(FLAGGED))
        return flagged if span.low == "yes" else not_(flagged)
    return Job.id.in_(select(Image.job_id).where(FLAGGED, Image.flagged == span.low))


def _size(span: Span) -> ColumnElement[bool]:
    width, _, height = str(span.low).partition("x")
    return and_(Job.width == int(width), Job.height == int(height))


def _beyond(order: ColumnElement[Any], after: Place, ascending: bool) -> ColumnElement[bool]:
    further = order > after.value if ascending else order < after.value
    job_id = ROWID if order is ROWID else Job.id
    later = job_id > after.job_id if ascending else job_id < after.job_id
    if order is job_id:
        return later
    return or_(further, and_(order == after.value, later))


SPECIAL: Mapping[str, Callable[[Span], ColumnElement[bool]]] = {
    "batch": _batch,
    "state": lambda span: Job.state == JobState(span.low),
    "failed": lambda span: and_(Job.state == JobState.FAILED, Job.cause == span.low),
    "flagged": _flagged,
    "size": _size,
}
