"""What is asked of jobs, as conditions: on their rows, and on the tallies of the blocks they are in."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnCollection,
    ColumnElement,
    Engine,
    Select,
    and_,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    text,
    true,
)

from db.blocks import DAY
from db.job_text import words_match
from db.models import SEEDS, Batch, Image, Job, JobState, Tally
from db.tags import tag
from db.terms import Query, Span, Term

#: Written as the partial index of the flags has it: with a bound value the index is not used.
FLAGGED = text("flagged IS NOT NULL")
Condition = Callable[[Span], ColumnElement[bool]]

#: The fields that are columns.
COLUMNS: Mapping[str, ColumnElement[Any]] = {
    **{name: Job[name] for name in ("id", "seed", "steps", "scale", "width", "height", "strength", "eta")},
    **{name: Job[name] for name in ("sampler", "model", "worker", "attempts")},
    "took": Image.seconds,
    "finished": Job.finished_at,
}
IN_TEXT = {"text": ("prompt", "negative_prompt"), "prompt": ("prompt",), "negative": ("negative_prompt",)}


def conditions(engine: Engine, query: Query, *, one_by_one: bool = False) -> Iterator[ColumnElement[bool]]:
    """What must hold of ``job``, outer-joined with ``image``; by the rows alone, where they are read one by one."""
    for term in query.terms:
        # No index tells which jobs do not have a word.
        yield _holds(term, partial(_condition, engine, term.field, one_by_one or _is_read(engine, term)))


def _is_read(engine: Engine, term: Term) -> bool:
    return term.excluded and engine.dialect.name != "sqlite"


def tally_conditions(query: Query) -> tuple[ColumnElement[bool], bool]:
    """What must hold of one tally at least of a block that has such jobs; and whether it holds of those jobs alone."""
    exact = all(term.field in EXACT for term in query.terms)
    known = (term for term in query.terms if term.field in EXACT or (term.field in NEAR and not term.excluded))
    return and_(true(), *(_holds(term, {**EXACT, **NEAR}[term.field]) for term in known)), exact


def indexed(query: Query, low: int, high: int) -> Iterator[Select[Any]]:
    """For each term that an index answers by itself: the ids of its jobs, those from ``low`` to ``high`` at least."""
    for term in query.terms:
        if term.field in INDEXED and not term.excluded:
            key, condition = INDEXED[term.field]
            ids = select(key).where(_holds(term, condition))
            yield ids.where(_seeds_of(low, high)) if term.field == "seed" else ids


def within(query: Query, field: str) -> Iterator[ColumnElement[bool]]:
    """What is asked of a column alone."""
    return (_holds(term, _within(COLUMNS[field])) for term in query.terms if term.field == field and not term.excluded)


def _seeds_of(low: int, high: int) -> ColumnElement[bool]:
    """The parts of the index of seeds; they are written as it has them."""
    part: ColumnElement[int] = Job.id.op(">>")(literal_column(str(SEEDS)))
    return part.in_(range(low >> SEEDS, (high >> SEEDS) + 1))


def id_bounds(query: Query) -> Iterator[Span]:
    """Between which ids the jobs are."""
    for term in query.terms:
        if term.field == "id" and not term.excluded and len(term.wanted) == 1:
            yield term.wanted[0]


def _holds(term: Term, condition: Condition) -> ColumnElement[bool]:
    holds = or_(*map(condition, term.wanted))
    # What is not known does not hold.
    return not_(func.coalesce(holds, false())) if term.excluded else holds


def _condition(engine: Engine, field: str, one_by_one: bool, span: Span) -> ColumnElement[bool]:
    if field in IN_TEXT:
        return words_match(engine, IN_TEXT[field], str(span.low), one_by_one=one_by_one)
    if field.startswith("tag."):
        return tag(engine, field.removeprefix("tag.")) == str(span.low)
    return SPECIAL[field](span) if field in SPECIAL else _within(COLUMNS[field])(span)


def _within(column: ColumnElement[Any]) -> Condition:
    def condition(span: Span) -> ColumnElement[bool]:
        if span.low == span.high and not span.strict:
            return column == span.low
        above = [] if span.low is None else [column > span.low if span.strict else column >= span.low]
        below = [] if span.high is None else [column < span.high if span.strict else column <= span.high]
        return and_(*above, *below)

    return condition


def _batch(column: ColumnElement[Any]) -> Condition:
    def condition(span: Span) -> ColumnElement[bool]:
        if isinstance(span.low, str):
            return column.in_(select(Batch.id).where(Batch.name == span.low))
        return _within(column)(span)

    return condition


def _size(columns: "ColumnCollection[str, Any]") -> Condition:
    def condition(span: Span) -> ColumnElement[bool]:
        width, _, height = str(span.low).partition("x")
        return and_(columns.width == int(width), columns.height == int(height))

    return condition


def _flagged(span: Span) -> ColumnElement[bool]:
    if span.low in ("yes", "no"):
        flagged = Job.id.in_(select(Image.job_id).where(FLAGGED))
        return flagged if span.low == "yes" else not_(flagged)
    return Job.id.in_(select(Image.job_id).where(FLAGGED, Image.flagged == span.low))


def _day(span: Span) -> ColumnElement[bool]:
    """The days that a time may lie on."""
    low, high = (None if end is None else int(float(end) // DAY) for end in (span.low, span.high))
    return _within(Tally.day)(Span(low, high))


def _state(span: Span) -> ColumnElement[bool]:
    """A block with a tally has no job that is still to end."""
    possible = {JobState.QUEUED: false(), JobState.RUNNING: false(), JobState.FAILED: Tally.failures > 0}
    return possible.get(JobState(span.low), true())


SPECIAL: Mapping[str, Condition] = {
    "batch": _batch(Job.batch_id),
    "state": lambda span: Job.state == JobState(span.low),
    "failed": lambda span: and_(Job.state == JobState.FAILED, Job.cause == span.low),
    "flagged": _flagged,
    "size": _size(Job),
}
#: Fields that all jobs of a tally have in common, and those of which it tells less.
EXACT: Mapping[str, Condition] = {
    **{name: _within(Tally[name]) for name in ("model", "sampler", "width", "height")},
    "size": _size(Tally),
    "batch": _batch(Tally.batch_id),
}
NEAR: Mapping[str, Condition] = {
    "finished": _day,
    "worker": _within(Tally.worker),
    "state": _state,
    "failed": lambda _span: Tally.failures > 0,
}
#: The id of a job where an index has the field, and the condition there.
INDEXED: Mapping[str, tuple[ColumnElement[Any], Condition]] = {
    "seed": (Job.id, _within(Job.seed)),
    "steps": (Job.id, _within(Job.steps)),
    "took": (Image.job_id, _within(Image.seconds)),
}
