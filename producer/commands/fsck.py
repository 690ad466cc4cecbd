"""What compares everything with everything, and mends it."""

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from configs.plain_text import plain
from configs.settings import Settings, get_settings
from producer.commands.course import find_batch, open_ledger

if TYPE_CHECKING:
    from producer.fsck import Finding, Inspection
    from producer.queue import Queue
    from producer.repair import Repair

#: Findings of a kind that are printed for people; programs get all.
SHOWN = 10


@click.command()
@click.argument("batch", required=False)
@click.option("--deep", is_flag=True, help="Decode every image and compare its pixels.")
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option(
    "--age", type=click.FloatRange(0), default=300, show_default=True, metavar="SECONDS",
    help="Leave alone what is younger: it may be somebody's work.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding, and a summary as the last.")
def fsck(batch: str | None, deep: bool, repair: bool, age: float, as_json: bool) -> None:
    """Compare ledger, images and queue of BATCH, or of all batches.

    Files that are missing, cut off, altered, left over or of no image; jobs without their image, or whose worker or
    message is gone; batches that are incomplete. Of a file size, start and end are looked at; with --deep, all.

    --repair queues again what is missing or altered, with its parameters and seed, puts back stalled jobs, sends
    lost ones again, removes leftovers and batches that were never opened. It deletes no picture: files of no image are
    only named.

    Exits with 1 when it found something, mended or not: run it again to see what is left.
    """
    from producer.fsck import Inspection
    from producer.repair import Repair

    settings, ledger = get_settings(), open_ledger()
    batch_id = find_batch(ledger, batch).id if batch else None
    queue, root = _reach_queue(settings), settings.images_root
    inspection = Inspection(engine=ledger.engine, root=root, batch_id=batch_id, queue=queue, deep=deep, age=age)
    mending = Repair(
        ledger=ledger, home=settings.home, root=root, queue=queue, chunk_size=settings.chunk_size,
        max_attempts=settings.max_attempts,
    )  # fmt: skip
    found: Counter[str] = Counter()
    for finding in inspection.findings():
        found[finding.kind] += 1
        _print_finding(finding, found[finding.kind], as_json)
        if repair:
            mending.take(finding)
    mending.finish()
    _print_summary(inspection, found, mending, as_json)
    sys.exit(1 if found else 0)


def _reach_queue(settings: Settings) -> "Queue | None":
    from producer.errors import QueueUnreachable
    from producer.queue import Queue, find_url

    url = find_url(settings)
    if url is None:
        return None
    try:
        queue = Queue(url)
        queue.ping()
        return queue
    except QueueUnreachable as error:
        click.echo(f"{error} It is left out.", err=True)
        return None


def _print_finding(finding: "Finding", number: int, as_json: bool) -> None:
    from producer.table import print_json_lines

    if as_json:
        print_json_lines([_fields(finding)])
    elif number <= SHOWN:
        job = f"job {finding.job_id}" if finding.job_id is not None else f"batch {finding.batch_id}"
        print(plain(f"{finding.kind:<11} {job:<13} {': '.join(filter(None, (finding.path, finding.detail)))}").rstrip())
    elif number == SHOWN + 1:
        print(f"{finding.kind:<11} and more; --json tells all")


def _fields(finding: "Finding") -> dict[str, Any]:
    fields = {"kind": finding.kind, "batch": finding.batch_id, "job": finding.job_id}
    return {**fields, "path": finding.path or None, "detail": finding.detail}


def _print_summary(inspection: "Inspection", found: Counter[str], mending: "Repair", as_json: bool) -> None:
    from producer.fsck import KINDS
    from producer.repair import advice
    from producer.table import print_json_lines

    seen, queue = dict(inspection.seen), inspection.queue is not None
    if as_json:
        told = {"kind": "summary", "seen": seen, "queue": queue, "found": dict(found), "mended": dict(mending.mended)}
        return print_json_lines([told])
    for kind, count in found.items():
        print(f"{count:,} {kind}: {KINDS[kind]} → {advice(kind, mending.mended[kind])}")
    if mending.unsent:
        print(f"What was queued again was not sent: {mending.unsent.rstrip('.')}; `promptmill resume` makes it.")
    numbers = ", ".join(f"{seen.get(word, 0):,} {word}" for word in ("jobs", "images", "files"))
    total = sum(found.values())
    print(f"{numbers}{'' if queue else '; no queue runs'}: {total:,} {'finding' if total == 1 else 'findings'}")
