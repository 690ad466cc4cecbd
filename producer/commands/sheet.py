"""Contact sheets."""

from pathlib import Path

import click

from configs.settings import get_settings
from producer.commands.course import find_batch, open_ledger

CAPTIONS = ("job", "file", "prompt", "seed", "steps", "scale", "sampler", "model")


@click.command()
@click.argument("batch", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=".", help="Folder, or PNG, JPEG or WebP file.")
@click.option("--columns", type=click.IntRange(1, 200), default=6, show_default=True, help="Images per row.")
@click.option("--rows", type=click.IntRange(1, 200), default=8, show_default=True, help="Rows per page.")
@click.option("--cell", type=click.IntRange(16, 4096), default=256, show_default=True, help="Most pixels of a side.")
@click.option("--caption", "captions", type=click.Choice(CAPTIONS), multiple=True, help="A line under each image.")
@click.option("--ground", type=click.Choice(["black", "white"]), default="black", show_default=True)
def sheet(
    batch: str | None, output: Path, columns: int, rows: int, cell: int, captions: tuple[str, ...], ground: str
) -> None:
    """Draw contact sheets of the images of BATCH.

    BATCH is a number or a file name; without it, the newest. Pages have running numbers, and no file is overwritten.

    \b
    promptmill sheet
    promptmill sheet prompts.csv -o sheets/ --columns 4 --caption seed --caption prompt
    """
    from producer.contact_sheet import ContactSheet
    from producer.sheet import Sheet

    ledger = open_ledger()
    found = find_batch(ledger, batch)
    lines = len(captions)
    page = Sheet(columns=columns, rows=rows, cell=(cell, cell), gap=4, margin=4, ground=ground, caption_lines=lines)
    contact_sheet = ContactSheet(ledger.engine, found, get_settings().images_root, captions)
    for path in contact_sheet.save(page, output):
        click.echo(path)
    if contact_sheet.missing:
        click.echo(f"{contact_sheet.missing} images are not on this disk any more.", err=True)
