"""The report of a batch: what became of its jobs, how fast, and what to do next."""

import base64
import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, Row

from db import chronicle, queries
from db.models import JobState
from producer.errors import NoSuchTag, PictureUnreadable, ReportRefused
from producer.numbered_files import draft
from producer.picture import open_picture
from producer.timeline import Making, Timeline, draw

#: Longest side of a picture in the report, in pixels.
SIDE = 160
#: Values of a tag that still sort pictures for the eye.
FEW = 40
#: What else can be done about a cause, beside another try.
ADVICE = {
    "invalid": "The row asks for what cannot be made: correct it in the file, and submit that again.",
    "checkpoint": "`promptmill models verify` looks at the checkpoint.",
    "memory": "Ask for smaller images, or give the worker a larger card.",
    "nan": "Ask for `--precision float32`.",
    "poison": "The worker's process died of it each time; its log says what of.",
}


class Failure(NamedTuple):
    """The jobs that failed for one cause."""

    cause: str
    jobs: int
    #: One of them, and what it says.
    job_id: int
    message: str
    advice: str


class Step(NamedTuple):
    """What can be run next, and what for."""

    command: str
    purpose: str


class Thumbnail(NamedTuple):
    """A small picture as part of a page."""

    job_id: int
    prompt: str
    #: `data:`; empty where the file cannot be read any more.
    uri: str


@dataclass(frozen=True)
class Group:
    """Images with one value of a tag."""

    value: str
    images: int
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is told of a batch. Times are seconds since 1970."""

    batch: Row[Any]
    counts: Mapping[JobState, int]
    failures: tuple[Failure, ...]
    flags: Mapping[str, int]
    holds: tuple[Row[Any], ...]
    timeline: Timeline | None
    slowest: tuple[Row[Any], ...]
    #: The tag that `groups` are by; empty where they are one.
    tag: str
    groups: tuple[Group, ...]

    @property
    def left(self) -> int:
        return self.counts[JobState.QUEUED] + self.counts[JobState.RUNNING]

    @property
    def headline(self) -> str:
        """What came of it, in a few words."""
        made, failed = self.counts[JobState.SUCCEEDED], self.counts[JobState.FAILED]
        if made == self.batch.total:
            return f"All {made:,} images are made"
        parts = {"failed": failed, "were cancelled": self.counts[JobState.CANCELLED], "are left": self.left}
        missing = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
        return f"{made:,} of {self.batch.total:,} images are made; {missing}"

    @property
    def steps(self) -> Iterator[Step]:
        """What to run next, the most urgent first."""
        number, counts = self.batch.id, self.counts
        if self.left:
            yield Step(f"promptmill resume {number}", f"makes the {self.left:,} that are left")
        if failed := counts[JobState.FAILED]:
            yield Step(f"promptmill history --batch {number} --state failed", f"lists the {failed:,} that failed")
        if again := failed + counts[JobState.CANCELLED]:
            yield Step(f"promptmill retry {number}", f"tries {again:,} again")
        if flagged := sum(self.flags.values()):
            yield Step(f"promptmill history --batch {number} --flagged", f"lists the {flagged:,} to be looked at")


def gather(engine: Engine, batch: Row[Any], images: Path, *, tag: str | None = None, pictures: int = 120) -> Report:
    """Read a batch's report from the ledger.

    images: the images' root. tag: what pictures are grouped by; the first that sorts them into few groups when it is
    None. pictures: the most that are shown.

    Raises:
        NoSuchTag: the batch has none of that name.
    """
    counted, found = dict(queries.counts(engine, batch.id)), chronicle.makings(engine, batch.id)
    by, values = _choose_tag(engine, batch.id, tag)
    return Report(
        batch=batch,
        counts=counted,
        failures=tuple(_failures(engine, batch.id)),
        flags=queries.flags(engine, batch.id),
        holds=tuple(queries.holds(engine, batch.id)),
        timeline=draw(Making(row.worker, row.device, row.created_at - row.seconds, row.created_at) for row in found),
        slowest=tuple(chronicle.slowest(engine, batch.id, 10)),
        tag=by,
        groups=tuple(_groups(engine, batch.id, images, by, values, pictures)),
    )


def outline(engine: Engine, batch: Row[Any]) -> Report:
    """The report without its pictures and times: quick, whatever was made."""
    return Report(
        batch=batch,
        counts=dict(queries.counts(engine, batch.id)),
        failures=tuple(_failures(engine, batch.id)),
        flags=queries.flags(engine, batch.id),
        holds=tuple(queries.holds(engine, batch.id)),
        timeline=None,
        slowest=(),
        tag="",
        groups=(),
    )


def _failures(engine: Engine, batch_id: int) -> Iterator[Failure]:
    for row in chronicle.failures(engine, batch_id):
        cause = row.cause or "unexpected"
        yield Failure(cause, row.jobs, row.job_id, (row.message or "").strip(), ADVICE.get(cause, ""))


def _choose_tag(engine: Engine, batch_id: int, wanted: str | None) -> tuple[str, dict[str, int]]:
    """A tag and the images of each of its values; no tag, and all of them under an empty value."""
    names = chronicle.tag_names(engine, batch_id)
    if wanted is not None and wanted not in names:
        there = f"it has {', '.join(names)}" if names else "it has none"
        raise NoSuchTag(f"Batch {batch_id} has no tag {wanted}; {there}.")
    for name in names if wanted is None else [wanted]:
        values = chronicle.images_by_tag(engine, batch_id, name)
        if name == wanted or 1 < len(values) <= FEW:
            return name, values
    return "", chronicle.images_by_tag(engine, batch_id, "")


def _groups(
    engine: Engine, batch_id: int, images: Path, tag: str, values: Mapping[str, int], most: int
) -> Iterator[Group]:
    """Each value with as many pictures as the others, taken evenly from its images."""
    share = max(1, most // max(1, len(values)))
    shown: dict[str, list[Thumbnail]] = {value: [] for value in values}
    met = dict.fromkeys(values, 0)
    for row in chronicle.picture_paths(engine, batch_id, tag):
        # Rows may have come since they were counted.
        count = values.get(row.value, 0)
        if count and met[row.value] * share // count >= len(shown[row.value]) and len(shown[row.value]) < share:
            shown[row.value].append(Thumbnail(row.id, row.prompt, _shrink(images / row.path)))
        met[row.value] = met.get(row.value, 0) + 1
    for value, count in values.items():
        yield Group(value, count, tuple(shown[value]))


def _shrink(path: Path) -> str:
    """A picture's file as a small one in a `data:` URI; empty where it cannot be read."""
    small = io.BytesIO()
    try:
        with open_picture(path) as picture:
            picture.thumbnail((SIDE, SIDE))
            picture.convert("RGB").save(small, "WEBP", quality=75)
    except PictureUnreadable as error:
        print(error, file=sys.stderr)
        return ""
    return f"data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()}"


def save(page: str, path: Path) -> Path:
    """Write a page whole, in the place of one that is there; returns its path. Raises ReportRefused."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft(path.parent, path.suffix) as written:
            written.write_text(page, encoding="utf-8", errors="replace")
            written.replace(path)
    except OSError as error:
        raise ReportRefused(f"{path}: {error.strerror or error}; name another file with -o.") from error
    return path
