"""Counts over what a query finds: images, failures and time, by model, sampler, size, day or worker."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Select, func, select

from db.blocks import ENDED, KEYS, SUMS, catch_up, single_jobs, stretches, uncounted
from db.conditions import conditions, tally_conditions
from db.models import TALLIES, Job, JobState
from db.reading import snapshot
from db.search import prepare
from db.terms import Query

#: What jobs can be counted by, and the columns that it is made of.
COUNTED_BY: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("model", "sampler")},
    "size": ("width", "height"),
    **{name: (name,) for name in ("day", "worker")},
}


class Count(NamedTuple):
    """What became of the jobs with one key: a text, or a number of days since 1970 in UTC. None is not known."""

    key: str | int | None
    images: int
    failures: int
    #: Of a device: see `db.blocks.single_jobs`.
    seconds: float


def tally(engine: Engine, query: Query, by: str) -> list[Count]:
    """Of the jobs that a query finds and that have ended: a count for each value of ``by``, in its order."""
    prepare(engine, query)
    catch_up(engine)
    sums: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    with snapshot(engine) as connection:
        for part in _parts(engine, connection, query):
            for *key, images, failures, seconds in connection.execute(_summed(part, COUNTED_BY[by])):
                sums[tuple(key)] = [a + b for a, b in zip(sums[tuple(key)], (images, failures, seconds), strict=True)]
    counts = (
        Count(_key(key), int(images), int(failures), seconds) for key, (images, failures, seconds) in sums.items()
    )
    return sorted(counts, key=lambda count: (count.key is not None, count.key))


def _key(values: tuple[Any, ...]) -> str | int | None:
    return values[0] if len(values) == 1 else "x".join(map(str, values))


def _summed(rows: Select[Any], keys: tuple[str, ...]) -> Select[Any]:
    # Of a subquery: PostgreSQL takes the same expression with values of its own for another one.
    found = rows.subquery()
    columns = [found.c[name] for name in keys]
    return select(*columns, *(func.sum(found.c[name]) for name in SUMS)).group_by(*columns)


def _parts(engine: Engine, connection: Connection, query: Query) -> Iterator[Select[Any]]:
    """What is to be summed: tallies, and the jobs of blocks without; jobs alone, where tallies tell too little."""
    holds, exact = tally_conditions(query)
    jobs = single_jobs().where(*conditions(engine, query))
    if exact:
        yield select(*(TALLIES.c[name] for name in (*KEYS, *SUMS))).where(holds)
        for low, high in uncounted(connection):
            yield jobs.where(Job.state.in_(ENDED), Job.id.between(low, high))
    else:
        newest = connection.execute(select(func.max(Job.id))).scalar() or 0
        # Not by the index of the states, which nearly all have.
        ended = jobs.where(Job.state.not_in((JobState.QUEUED, JobState.RUNNING)))
        found = stretches(connection, 0, newest, holds)
        if found:
            yield ended.where(Job.id.between(found[0][0], found[-1][1]))
