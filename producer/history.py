"""What was asked for and what became of it, newest first."""

import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row

from configs.plain_text import plain, recordable
from configs.samplers import resolve
from db import queries
from db.models import IMAGES, JOBS, JobState
from db.reading import PAGE
from db.search import Place, Query, Span, Term, find, term
from producer.errors import UsageError
from producer.query import parse
from producer.table import moment, print_csv, print_fields, print_json_lines, print_table

#: Columns of the ledger that say how work was handed out, and mean nothing afterwards.
INTERNAL = {"chunk", "content_key", "fence", "lease_until", "priority"}
IMAGE_FIELDS = [f"image_{column.name}" for column in IMAGES.columns if column.name not in ("id", "job_id")]
FIELDS = [*(c.name for c in JOBS.columns if c.name not in INTERNAL), "batch", *IMAGE_FIELDS]
HEADER = ("job", "batch", "state", "finished", "seed", "steps", "scale", "sampler", "size", "image", "prompt")


def wanted(engine: Engine, query: Sequence[str] = (), **flags: Any) -> Query:
    """What a query in the query language and the command's flags ask for together.

    Raises:
        InvalidQuery: the query cannot be read.
        NotInLedger, UnknownSampler: there is none of that name.
    """
    batch = flags.get("batch")
    named = [term("batch", queries.find_batch(engine, batch).id)] if batch else []
    return parse(" ".join(query), time.time()) + Query((*named, *flag_terms(flags)))


def flag_terms(flags: Mapping[str, Any]) -> Iterator[Term]:
    """What the command's flags ask for, but for the batch. Raises UnknownSampler."""
    if sampler := flags.get("sampler"):
        yield term("sampler", resolve(sampler).name)
    if flags.get("flagged"):
        yield term("flagged", "yes")
    if (before := flags.get("before")) is not None:
        yield Term("id", (Span(high=before, strict=True),))
    for name in ("state", "seed", "steps", "scale"):
        if flags.get(name) is not None:
            yield term(name, flags[name])
    for name, value in flags.get("tags", ()):
        yield term(f"tag.{recordable(name)}", recordable(value))


def find_jobs(
    engine: Engine,
    query: Query,
    *,
    limit: int | None = None,
    after: Place | None = None,
    sort: str = "id",
    ascending: bool = False,
) -> Iterator[Row[Any]]:
    """Jobs with their images, in order; all of them without a limit."""
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(limit, PAGE)
        page = find(engine, query, limit=size, after=after, sort=sort, ascending=ascending)
        yield from page
        if len(page) < size:
            return
        after = Place(page[-1].place, page[-1].id)
        limit = limit and limit - size


def read_place(cursor: str, sort: str) -> Place:
    """Where a page ended, as `print_next` writes it.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"([a-z]+):([-0-9.e+]+):([0-9]{1,18})", cursor)
    with suppress(ValueError):
        # What is longer is no number that a database has given.
        if found and found[1] == sort and len(found[2]) < 25:
            value = float(found[2])
            is_whole = found[2].isdecimal() and value < 2**63
            return Place(int(found[2]) if is_whole else value, int(found[3]))
    raise UsageError(f"--after {cursor} is no end of a page in order of {sort}: copy what the page before said.")


def print_next(row: Row[Any], sort: str) -> None:
    """Say how the next page is asked for."""
    print(f"More: --after {sort}:{row.place}:{row.id}", file=sys.stderr)


def record(row: Row[Any], root: Path) -> dict[str, Any]:
    """A job and its image as plain values, by the words of the ledger; the image's path is a full one."""
    found = {name: getattr(row, name) for name in FIELDS}
    found["state"] = row.state.value
    found["image_path"] = image_path(row, root)
    return found


def image_path(row: Row[Any], root: Path) -> str | None:
    return str(root / row.image_path) if row.image_path else None


def print_history(rows: Iterator[Row[Any]], root: Path, *, form: str, safe: bool = False, end: str = "\n") -> None:
    """``form`` is ``table``, ``json`` (one object a line), ``paths`` or ``csv``, which may be safe for spreadsheets."""
    if form == "table":
        print_table(HEADER, (_line(row) for row in rows))
    elif form == "json":
        print_json_lines(record(row, root) for row in rows)
    elif form == "paths":
        print_paths((path for row in rows if (path := image_path(row, root))), end)
    else:
        print_csv(FIELDS, (record(row, root) for row in rows), safe=safe)


def print_paths(paths: Iterable[str], end: str) -> None:
    """For programs: exact, but for a terminal."""
    for path in paths:
        print(plain(path) if sys.stdout.isatty() else path, end=end)


def print_batches(engine: Engine, limit: int) -> None:
    """The newest batches with the number of their jobs in each state."""
    header = ("batch", "submitted", *(state.value for state in JobState), "", "name")
    print_table(header, (_batch_line(engine, batch) for batch in queries.batches(engine, limit)))


def print_batch(engine: Engine, batch: Row[Any], root: Path) -> None:
    """One batch: when it was submitted, its jobs by state, where its images are."""
    counts = queries.counts(engine, batch.id)
    held = queries.holds(engine, batch.id)
    times = {"submitted": batch.submitted_at, "paused": batch.paused_at, "cancelled at": batch.cancelled_at}
    print_fields(
        {
            "batch": batch.id,
            "name": batch.name,
            **{name: moment(time) for name, time in times.items()},
            "jobs": batch.total,
            **{state.value: counts[state] for state in JobState},
            "flagged": flagged(queries.flags(engine, batch.id)),
            **{f"held: {hold.model}": f"{hold.jobs}, {hold.cause}: {hold.message}" for hold in held},
            "images": root / batch.folder,
        }
    )


def flagged(flags: Mapping[str, int]) -> str:
    """Numbers of flagged images: ``1 flat, 2 unsafe``."""
    return ", ".join(f"{count} {flag}" for flag, count in flags.items())


def standing(batch: Row[Any], counts: Mapping[JobState, int]) -> str:
    """In one word, what a batch is doing."""
    if not counts[JobState.QUEUED] + counts[JobState.RUNNING]:
        return "done"
    return "paused" if batch.paused_at else ""


def _batch_line(engine: Engine, batch: Row[Any]) -> tuple[object, ...]:
    counts = queries.counts(engine, batch.id)
    return (batch.id, moment(batch.submitted_at), *counts.values(), standing(batch, counts), batch.name)


def _line(row: Row[Any]) -> tuple[object, ...]:
    return (
        row.id,
        row.batch_id,
        row.state.value,
        moment(row.finished_at),
        row.seed,
        row.steps,
        f"{row.scale:g}",
        row.sampler,
        f"{row.width}x{row.height}",
        _image(row),
        row.prompt,
    )


def _image(row: Row[Any]) -> str:
    """Where the image is, and what is wrong with it, with the score of an unsafe one; or why there is none."""
    if not row.image_path:
        return row.cause or ""
    score = f" {row.image_safety_score:+.3f}" if row.image_flagged == "unsafe" else ""
    return f"{row.image_path} ({row.image_flagged}{score})" if row.image_flagged else str(row.image_path)
