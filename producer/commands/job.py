"""What was asked for, and what became of it."""

from pathlib import Path
from typing import Any

import click

from configs.parameters import MAX_SEED
from configs.settings import get_settings
from producer.commands.course import open_ledger
from producer.options import Tag


@click.command()
@click.argument("words", nargs=-1)
@click.option("--batch", help="Number or file name of a batch.")
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]))
@click.option("--seed", type=click.IntRange(0, MAX_SEED))
@click.option("--steps", type=click.IntRange(1, 1000))
@click.option("--scale", type=float)
@click.option("--sampler", help="By any of its names.")
@click.option("--flagged", is_flag=True, help="Only images to look at: of one colour, or unsafe.")
@click.option("--tag", "tags", type=Tag(), multiple=True, help="A column of the prompt file that is no parameter.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Jobs listed; 0 is all.")
@click.option("--before", type=click.IntRange(1, MAX_SEED), metavar="JOB", help="Only older jobs: the next page.")
@click.option("--json", "form", flag_value="json", help="One JSON object a line, with every field.")
@click.option("--csv", "form", flag_value="csv", help="CSV with every field.")
@click.option("--safe", is_flag=True, help="In CSV, a ' before every text that a spreadsheet would take for a formula.")
def history(
    words: tuple[str, ...], limit: int, before: int | None, form: str | None, safe: bool, **wanted: Any
) -> None:
    """List jobs and their images, newest first.

    Of several WORDS all must be in the prompt.

    \b
    promptmill history castle --seed 42
    promptmill history --batch prompts.csv --state failed
    promptmill history --tag category=Animals --limit 0 --csv > animals.csv
    """
    from producer.history import find_jobs, print_history

    if safe and form != "csv":
        raise click.UsageError("--safe says how --csv is written; give both.")
    jobs = find_jobs(open_ledger().engine, words, limit=limit or None, before=before, **wanted)
    print_history(jobs, get_settings().images_root, form=form or "table", safe=safe)


@click.command()
@click.argument("target", metavar="JOB|IMAGE")
def show(target: str) -> None:
    """Show everything about a job or an image file.

    A job goes by its number. Of an image file it is shown what is written in it; no ledger is needed.
    """
    from db import queries
    from producer.show import print_image, print_job

    if target.isdecimal():
        print_job(queries.find_job(open_ledger().engine, queries.id_of(target) or 0), get_settings().images_root)
    else:
        print_image(Path(target))
