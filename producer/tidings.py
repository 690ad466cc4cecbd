"""What a notice says: plain text of what came of a batch, and of what can be done."""

import re
import socket
from collections.abc import Iterator

from sqlalchemy import Engine

from configs.plain_text import plain
from configs.settings import Settings
from db import chronicle, queries
from db.models import JobState
from db.notices import Event
from producer.messenger import Message
from producer.progress import clock
from producer.report import Report, outline

#: Most causes that are told.
CAUSES = 8
#: Most characters of a name that are told.
LONGEST = 80
STOPPED = {
    Event.HELD: "is held back: too many jobs in a row failed",
    Event.FAILING: "fails: none of its jobs has succeeded",
    Event.DISK: "waits: the images' disk is full",
    Event.WORKERS: "stands still: no worker is alive",
}
TEST = Message("Promptmill: a test", "Notices of your batches will come here.")


def compose(engine: Engine, settings: Settings, batch_id: int, event: Event) -> Message:
    """The message about an event of a batch."""
    report = outline(engine, queries.find_batch(engine, str(batch_id)))
    what = STOPPED.get(event) or _ending(report)
    title = f"Promptmill: batch {batch_id} ({_tamed(report.batch.name)}) {what}"
    return Message(title, "\n".join(_lines(engine, settings, report)))


def _ending(report: Report) -> str:
    """How it ended."""
    if report.batch.cancelled_at is not None:
        return "is cancelled"
    failed = report.counts[JobState.FAILED]
    return f"is finished, with {failed:,} failed" if failed else "is finished"


def _lines(engine: Engine, settings: Settings, report: Report) -> Iterator[str]:
    yield f"{report.headline}."
    for failure in report.failures[:CAUSES]:
        yield f"Failed with the cause {_tamed(failure.cause)}: {failure.jobs:,}"
    for hold in report.holds:
        yield f"Held back for {_tamed(hold.model)}: {hold.jobs:,}"
    yield from _pace(engine, report)
    yield f"Images: {plain(str(settings.images_root / report.batch.folder))} on {_tamed(socket.gethostname())}"
    yield ""
    yield f"promptmill report {report.batch.id}"
    for step in report.steps:
        yield f"{step.command} ({step.purpose})"


def _pace(engine: Engine, report: Report) -> Iterator[str]:
    """From the first start to the last end."""
    span = chronicle.span(engine, report.batch.id)
    if span.began is not None and span.ended is not None and span.ended > span.began:
        seconds = span.ended - span.began
        rate = report.counts[JobState.SUCCEEDED] / seconds
        yield f"{rate:.2f} images/s, {clock(seconds)} from the first start to the last end"


def _tamed(name: str) -> str:
    """A stranger's words without what a service could take for a mention, a link or markup."""
    return re.sub(r"[^\w .()-]", "?", plain(name))[:LONGEST]
