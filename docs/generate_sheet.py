"""Lays the pictures of `make demo` out as the sheet of the README: ``python docs/generate_sheet.py FOLDER``."""

from pathlib import Path

import click
from PIL import Image

from producer.sheet import Entry, Sheet

OUT = Path(__file__).with_name("images") / "demo.png"
COLUMNS = 8


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    paths = sorted(folder.glob("*.png"))
    with Image.open(paths[0]) as first:
        sheet = Sheet(columns=COLUMNS, cell=first.size, gap=4, margin=0, ground="white")
    OUT.parent.mkdir(exist_ok=True)
    next(sheet.pages(map(Entry, paths))).save(OUT, optimize=True)
    click.echo(f"Wrote {OUT}.")


if __name__ == "__main__":
    main()
