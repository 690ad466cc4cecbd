"""What was asked for and what became of it, newest first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row

from configs.plain_text import recordable
from configs.samplers import resolve
from db import queries
from db.models import IMAGES, JOBS, JobState
from db.queries import JobFilter
from db.reading import PAGE
from producer.table import moment, print_csv, print_fields, print_json_lines, print_table

#: Columns of the ledger that say how work was handed out, and mean nothing afterwards.
INTERNAL = {"chunk", "content_key", "fence", "lease_until", "priority"}
IMAGE_FIELDS = [f"image_{column.name}" for column in IMAGES.columns if column.name not in ("id", "job_id")]
FIELDS = [*(c.name for c in JOBS.columns if c.name not in INTERNAL), "batch", *IMAGE_FIELDS]
HEADER = ("job", "batch", "state", "finished", "seed", "steps", "scale", "sampler", "size", "image", "prompt")


def find_jobs(
    engine: Engine,
    words: Sequence[str] = (),
    *,
    limit: int | None,
    before: int | None = None,
    batch: str | None = None,
    state: str | None = None,
    sampler: str | None = None,
    tags: Iterable[tuple[str, str]] = (),
    **exact: Any,
) -> Iterator[Row[Any]]:
    """Jobs with their images, newest first; all of them without a limit.

    ``exact`` are ``seed``, ``steps``, ``scale`` and ``flagged``. A batch or a sampler may go by any of its names.

    Raises:
        NotInLedger, UnknownSampler: there is none of that name.
    """
    wanted = JobFilter(
        batch_id=queries.find_batch(engine, batch).id if batch else None,
        state=JobState(state) if state else None,
        sampler=resolve(sampler).name if sampler else None,
        words=tuple(map(recordable, words)),
        tags={recordable(name): recordable(value) for name, value in tags},
        **exact,
    )
    return _pages(engine, wanted, limit, before)


def _pages(engine: Engine, wanted: JobFilter, limit: int | None, before: int | None) -> Iterator[Row[Any]]:
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(limit, PAGE)
        page = queries.history(engine, wanted, limit=size, before=before)
        yield from page
        if len(page) < size:
            return
        before = page[-1].id
        limit = limit and limit - size


def record(row: Row[Any], root: Path) -> dict[str, Any]:
    """A job and its image as plain values, by the words of the ledger; the image's path is a full one."""
    found = {name: getattr(row, name) for name in FIELDS}
    found["state"] = row.state.value
    found["image_path"] = image_path(row, root)
    return found


def image_path(row: Row[Any], root: Path) -> str | None:
    return str(root / row.image_path) if row.image_path else None


def print_history(rows: Iterator[Row[Any]], root: Path, *, form: str, safe: bool = False) -> None:
    """``form`` is ``table``, ``json`` (one object a line) or ``csv``, which may be made safe for spreadsheets."""
    if form == "table":
        print_table(HEADER, (_line(row) for row in rows))
    elif form == "json":
        print_json_lines(record(row, root) for row in rows)
    else:
        print_csv(FIELDS, (record(row, root) for row in rows), safe=safe)


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
