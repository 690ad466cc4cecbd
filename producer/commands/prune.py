"""Retention."""

import time
from typing import TYPE_CHECKING, Any

import click

from configs.settings import get_settings
from producer.commands.course import open_ledger
from producer.commands.history import QueryCommand, Terms
from producer.options import Tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Row


@click.command(cls=QueryCommand)
@click.argument("query", nargs=-1, type=Terms())
@click.option("--batch", help="Number or file name of a batch.")
@click.option("--state", type=click.Choice(["succeeded", "failed", "cancelled"]))
@click.option("--flagged", is_flag=True, help="Only images of one colour, or unsafe.")
@click.option("--tag", "tags", type=Tag(), multiple=True, help="A column of the prompt file that is no parameter.")
@click.option(
    "--older-than", "days", type=click.FloatRange(0), metavar="DAYS", help="Only jobs that ended before then."
)
@click.option("--keep-files", is_flag=True, help="Take the jobs out of the ledger, and leave their images.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be taken.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(query: tuple[str, ...], days: float | None, keep_files: bool, dry_run: bool, yes: bool, **flags: Any) -> None:
    """Delete jobs that have ended, and their images, for good.

    QUERY is as for `promptmill history`. Queued and running jobs are never taken.

    \b
    promptmill history prune --older-than 90 --dry-run
    promptmill history prune --batch prompts.csv --state failed --yes
    """
    from producer.history import find_jobs, wanted
    from producer.prune import Pruning
    from producer.thumbnails import Thumbnails

    if not (query or days is not None or any(flags.values())):
        raise click.UsageError(
            "Say what is to be deleted: a QUERY, --batch, --state, --flagged, --tag or --older-than."
        )
    engine, settings = open_ledger().engine, get_settings()
    before = float("inf") if days is None else time.time() - days * 86_400
    asked = wanted(engine, query, **flags)

    def rows() -> "Iterator[Row[Any]]":
        return (row for row in find_jobs(engine, asked) if (row.finished_at or 0) < before)

    pruning = Pruning(engine, settings.images_root, keep_files, Thumbnails(settings.home / "thumbnails"))
    toll = pruning.weigh(rows())
    spared = f" {toll.spared:,} queued or running are left." if toll.spared else ""
    click.echo(f"{toll.jobs:,} jobs, {toll.files:,} image files, {toll.bytes / 1e6:,.1f} MB.{spared}")
    if dry_run or not toll.jobs:
        return
    if not yes:
        click.confirm("Delete them for good?", abort=True)
    taken = pruning.take(rows())
    click.echo(f"Deleted {taken.jobs:,} jobs, {taken.files:,} files, {taken.bytes / 1e6:,.1f} MB.")
