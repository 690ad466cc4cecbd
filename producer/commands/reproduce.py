"""Images made again, to see whether they come out the same."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from configs.settings import get_settings
from producer.commands.course import open_ledger
from producer.options import PRESET, equip_worker, worker_options

if TYPE_CHECKING:
    from db.ledger import Ledger
    from producer.progress import Counts
    from producer.reproduce import Target
    from producer.verdict import Verdict


@click.command()
@click.argument("images", nargs=-1, metavar="[JOB|IMAGE]...")
@click.option("--query", help="All images that a query finds, as for `promptmill history`.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most of --query.")
@click.option("--exact", is_flag=True, help="Be content with nothing but the same pixels.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for the new pictures.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an image.")
@click.option("--preset", help=PRESET)
@worker_options
def reproduce(
    images: tuple[str, ...], query: str | None, limit: int, exact: bool, keep: Path | None, as_json: bool,
    preset: str | None, vram: int | None,
) -> None:  # fmt: skip
    """Make images again as they were made, and say whether they are the same.

    An image goes by the number of its job, or by its file. It is made in calls of the recorded shape, here and now,
    and nothing of it is recorded. The verdict is identical, near, different or impossible, with what is not as it was:
    docs/reproduce.md. Exits with 1 unless all are identical or near.

    \b
    promptmill reproduce 1234
    promptmill reproduce --query 'batch:prompts.csv' --exact
    """
    from producer.errors import RerunRefused
    from producer.progress import open_display
    from producer.reproduce import reproduce
    from producer.verdict import summary

    if not images and query is None:
        raise click.UsageError("Say which images are to be made again: numbers of jobs, files, or --query.")
    equip_worker(preset, vram)
    # Each once, though a job may be named and found.
    targets = list({target.name: target for target in _targets(open_ledger(), images, query, limit)}.values())
    if not targets:
        raise RerunRefused("No image was found that could be made again; `promptmill history` lists what there is.")
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    verdicts: list[Verdict] = []
    with open_display(len(targets)) as display:
        display.show(_counts(verdicts, len(targets)))
        for verdict in reproduce(targets, keep, get_settings().home / "logs" / "reproduce.log"):
            verdicts.append(verdict)
            display.show(_counts(verdicts, len(targets)))
    order = {target.name: place for place, target in enumerate(targets)}
    _print(sorted(verdicts, key=lambda verdict: order[verdict.image]), as_json)
    click.echo(summary(verdicts), err=as_json)
    enough = {"identical"} if exact else {"identical", "near"}
    sys.exit(0 if {verdict.verdict for verdict in verdicts} <= enough else 1)


def _targets(ledger: "Ledger", images: tuple[str, ...], query: str | None, limit: int) -> "Iterator[Target]":
    from db.search import Query, term
    from producer.history import find_jobs, wanted
    from producer.reproduce import target_of_file, target_of_id, target_of_job

    root = get_settings().images_root
    for image in images:
        is_id = image.isdecimal()
        yield target_of_id(ledger.engine, image, root) if is_id else target_of_file(ledger.engine, Path(image), root)
    if query is not None:
        made = wanted(ledger.engine, (query,)) + Query((term("state", "succeeded"),))
        jobs = list(find_jobs(ledger.engine, made, limit=limit))
        yield from (target_of_job(job, root) for job in jobs)
        if len(jobs) == limit:
            click.echo(f"Of what is found, these are the newest {limit}; --limit takes more.", err=True)


def _counts(verdicts: "Sequence[Verdict]", total: int) -> "Counts":
    """How far it is, as of a batch."""
    from producer.progress import Counts

    failed = sum(verdict.verdict == "impossible" for verdict in verdicts)
    running = total - len(verdicts)
    return Counts(queued=0, running=running, succeeded=len(verdicts) - failed, failed=failed, cancelled=0)


def _print(verdicts: "Sequence[Verdict]", as_json: bool) -> None:
    from producer.table import print_json_lines, print_table

    if as_json:
        return print_json_lines(verdict._asdict() for verdict in verdicts)
    rows = (
        (found.image, found.verdict, "" if found.psnr is None else f"{found.psnr:.1f}", "; ".join(found.reasons))
        for found in verdicts
    )
    return print_table(("image", "verdict", "dB", "why"), rows)
