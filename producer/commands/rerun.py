"""Jobs once more."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from configs.plain_text import plain
from configs.settings import get_settings
from producer.commands.course import announce, go_on, open_ledger, send

if TYPE_CHECKING:
    from db.ledger import Ledger
    from producer.prompts import Row


@click.command()
@click.argument("images", nargs=-1, metavar="[JOB|IMAGE]...")
@click.option("--query", help="All jobs that a query finds, as for `promptmill history`.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="What is to be other than it was.")
@click.option("--name", help="Name of the batch.  [default: rerun]")
@click.option("--submit", is_flag=True, help="Only send them, or record them where no queue runs.")
def rerun(images: tuple[str, ...], query: str | None, changes: tuple[str, ...], name: str | None, submit: bool) -> None:
    """Make jobs again, as one new batch, with what --set changes.

    A job goes by its number, or by an image file of it. All else is as it was recorded. Names and values are those of
    prompt files; seed=random draws.

    \b
    promptmill rerun 1234 --set steps=40
    promptmill rerun --query 'castle steps:20' --set seed=random --name castles
    """
    from producer.queue import find_url
    from producer.rerun import Again, read_changes, submission_of
    from producer.submit import record

    if not images and query is None:
        raise click.UsageError("Say what is to be made again: numbers of jobs, image files, or --query.")
    settings, ledger = get_settings(), open_ledger()
    again = Again(_rows(ledger, images, query), read_changes(changes), settings.roots)
    batch = record(submission_of(again, settings, name), ledger)
    announce(batch)
    if not submit:
        go_on(ledger, batch)
    elif url := find_url(settings):
        send(url, ledger, batch)
    else:
        click.echo(f"Recorded; it is sent when `promptmill worker` or `promptmill resume {batch.id}` starts.", err=True)


def _rows(ledger: "Ledger", images: tuple[str, ...], query: str | None) -> "Iterator[Row]":
    from producer.history import find_jobs, wanted
    from producer.rerun import row_of_id, row_of_image, row_of_job

    for image in images:
        if image.isdecimal():
            yield row_of_id(ledger.engine, image)
            continue
        row, known = row_of_image(ledger.engine, Path(image), get_settings().images_root)
        if not known:
            click.echo(f"{plain(image)}: the ledger does not know it; its own record is taken.", err=True)
        yield row
    if query is not None:
        yield from map(row_of_job, find_jobs(ledger.engine, wanted(ledger.engine, (query,)), ascending=True))
