"""The course of a batch, as every command tells it: recorded, sent, followed, concluded."""

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from configs.plain_text import plain
from configs.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Row

    from configs.settings import Settings
    from db.ledger import Ledger
    from producer.outdir import Outdir
    from producer.progress import Counts
    from producer.submit import Submission


def open_ledger() -> "Ledger":
    from db.migrate import open_ledger

    return open_ledger(get_settings().ledger_url)


def find_batch(ledger: "Ledger", batch: str | None) -> "Row[Any]":
    from db.queries import find_batch

    return find_batch(ledger.engine, batch)


def warn(submission: "Submission") -> None:
    """Say what is not wrong with the prompts, and should be known."""
    warnings = submission.prompts.warnings
    for problem in warnings.problems:
        click.echo(f"Warning: {problem}", err=True)
    if hidden := warnings.total - len(warnings.problems):
        click.echo(f"Warning: {hidden} more of the same kind; the worker's log has them all.", err=True)
    for message in submission.repeats.messages() if submission.repeats else ():
        click.echo(f"Warning: {message}.", err=True)


def announce(batch: "Row[Any]") -> None:
    click.echo(f"Batch {batch.id}: {batch.total} images of {plain(batch.name)}.", err=True)


def send(url: str, ledger: "Ledger", batch: "Row[Any]") -> None:
    from producer.queue import Queue

    sent = Queue(url).send_batch(ledger, batch.id)
    click.echo(f"{sent} jobs sent; `promptmill watch {batch.id}` shows how far they are.", err=True)


def make(
    submission: "Submission", outdir: "Outdir", remarks: "Sequence[str]", settings: "Settings", vram: int | None
) -> None:
    """Record a batch, make it here or where the queue is, and fill its outdir. vram: of a worker started here."""
    from producer.options import equip_worker
    from producer.outdir import begin_notes
    from producer.pursuit import pursue
    from producer.submit import record

    warn(submission)
    ledger = open_ledger()
    for line in remarks:
        click.echo(plain(line), err=True)
    equip_worker(None, vram)
    batch = record(submission, ledger)
    begin_notes(settings.home, batch, outdir)
    announce(batch)
    with filling(ledger, batch) as fill:
        counts = pursue(settings, ledger, batch, fill)
    conclude(ledger, batch, counts)


def go_on(ledger: "Ledger", batch: "Row[Any]") -> None:
    """Send what is queued, or render it here where there is no queue."""
    from producer.local import LocalRendering
    from producer.progress import Counts
    from producer.queue import find_url

    settings = get_settings()
    counts = Counts.read(ledger.engine, batch.id)
    if not counts.left:
        return conclude(ledger, batch, counts)
    if url := find_url(settings):
        return send(url, ledger, batch)
    log = settings.home / "logs" / "worker.log"
    with LocalRendering(settings, ledger, log=log) as rendering, filling(ledger, batch) as fill:
        counts = rendering.make(batch, fill)
    return conclude(ledger, batch, counts)


def follow(ledger: "Ledger", batch: "Row[Any]") -> None:
    from producer.notifier import notifying
    from producer.progress import watch

    with notifying(get_settings(), ledger):
        counts = watch(ledger.engine, batch)
    conclude(ledger, batch, counts)


@contextmanager
def filling(ledger: "Ledger", batch: "Row[Any]") -> "Iterator[Callable[[], None]]":
    """What is to be called while the batch is made, so that its outdir fills; its troubles wait for `conclude`."""
    from producer.errors import OutdirUnusable
    from producer.outdir import open_notes
    from producer.placing import Placing

    settings = get_settings()
    with open_notes(settings.home, batch) as notes:
        placing = notes and Placing(notes, ledger.engine, batch, settings.images_root)

        def fill() -> None:
            with suppress(OutdirUnusable):
                if placing:
                    placing.advance()

        yield fill


def conclude(ledger: "Ledger", batch: "Row[Any]", counts: "Counts") -> None:
    """Say how it ended and where the images are; exits with 1 unless all succeeded."""
    _tell_holds(ledger, batch)
    if counts.left:
        click.echo(f"Stopped; `promptmill resume {batch.id}` goes on from there.", err=True)
    if counts.failed or counts.cancelled:
        how = f"{counts.failed} failed, {counts.cancelled} cancelled"
        click.echo(f"{how}; `promptmill history --batch {batch.id} --state failed` says why.", err=True)
    _tell_flags(ledger, batch)
    click.echo(f"{counts.succeeded} images in {get_settings().images_root / batch.folder}")
    _fill_outdir(ledger, batch)
    sys.exit(0 if counts.all_succeeded else 1)


def _tell_holds(ledger: "Ledger", batch: "Row[Any]") -> None:
    from db import queries

    for hold in queries.holds(ledger.engine, batch.id):
        why = f"too many in a row failed with the cause {hold.cause}, last: {plain(hold.message)}"
        click.echo(f"{hold.jobs} jobs for {plain(hold.model)} are held back: {why}", err=True)


def _tell_flags(ledger: "Ledger", batch: "Row[Any]") -> None:
    from db import queries
    from producer.history import flagged

    if flags := queries.flags(ledger.engine, batch.id):
        click.echo(
            f"Flagged: {flagged(flags)}; `promptmill history --batch {batch.id} --flagged` lists them.", err=True
        )


def _fill_outdir(ledger: "Ledger", batch: "Row[Any]") -> None:
    from producer.outdir import open_notes
    from producer.placing import Placing

    settings = get_settings()
    with open_notes(settings.home, batch) as notes:
        if notes:
            placing = Placing(notes, ledger.engine, batch, settings.images_root, watermark=settings.watermark)
            placing.finish()
            click.echo(plain(notes.summary()))
