"""The morning report."""

from pathlib import Path

import click

from configs.settings import get_settings
from producer.commands.course import find_batch, open_ledger


@click.command()
@click.argument("batch", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="HTML file, or `-`.  [default: in the home]")
@click.option("--tag", help="What the pictures are grouped by.  [default: the first tag with 2 to 40 values]")
@click.option("--pictures", type=click.IntRange(0, 5000), default=120, show_default=True, help="Most that are shown.")
def report(batch: str | None, output: Path | None, tag: str | None, pictures: int) -> None:
    """Write what became of BATCH, as a page.

    One HTML file that needs nothing beside itself: what was made, what failed and why, how fast, what to run next, and
    pictures by tag. BATCH is a number or a file name; without it, the newest.

    \b
    promptmill report
    promptmill report prompts.csv -o report.html --tag Category
    """
    from producer.report import gather, save
    from producer.report_page import render

    ledger, settings = open_ledger(), get_settings()
    found = find_batch(ledger, batch)
    page = render(gather(ledger.engine, found, settings.images_root, tag=tag, pictures=pictures))
    if str(output) == "-":
        click.echo(page)
    else:
        click.echo(save(page, output or settings.home / "reports" / f"{found.folder}.html"))
