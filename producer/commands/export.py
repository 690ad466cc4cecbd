"""What was made, for other programs."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from configs.settings import get_settings
from producer.commands.course import open_ledger
from producer.commands.history import TERM, QueryCommand, Terms

FORMS = ["csv", "jsonl", "parquet", "infotext", "imagefolder", "zip"]


class Destination(click.Path):
    """Also one that begins with a dash, as the words of a query may."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(str(value).removeprefix(TERM), param, ctx)


@click.command(cls=QueryCommand)
@click.argument("query", nargs=-1, type=Terms())
@click.argument("target", metavar="DEST", type=Destination(path_type=Path))
@click.option("--to", "form", required=True, type=click.Choice(FORMS))
@click.option("--batch", help="Number or file name of a batch.")
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]))
@click.option("--safe", is_flag=True, help="In CSV, a ' before every text that a spreadsheet would take for a formula.")
@click.option("--link", is_flag=True, help="Hard links instead of copies in an imagefolder, where that is possible.")
def export(query: tuple[str, ...], target: Path, form: str, safe: bool, link: bool, **flags: Any) -> None:
    """Write jobs and their images to DEST, in a form that other programs take.

    QUERY is as for `promptmill history`. A csv, submitted again, asks for the same images. An imagefolder is what
    Hugging Face's datasets load; a zip has the same in one file. parquet is for pandas, DuckDB and the
    like. infotext is what A1111 pastes.

    \b
    promptmill export --batch prompts.csv --to csv again.csv
    promptmill export castle 'steps:20..30' --to imagefolder castles
    """
    from producer.export import Export
    from producer.history import find_jobs, wanted

    if safe and form != "csv":
        raise click.UsageError("--safe says how csv is written; give it with --to csv.")
    engine = open_ledger().engine
    found = wanted(engine, query, **flags)
    rows = partial(find_jobs, engine, found, ascending=True)
    outcome = Export(rows, get_settings().images_root, safe, link).write(form, target)
    missing = f"; {outcome.missing:,} image files are not there or say nothing" if outcome.missing else ""
    click.echo(f"Wrote {outcome.written:,} to {target}{missing}.")
