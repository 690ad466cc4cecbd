"""Lays the pictures of `make demo` out as the sheet of the README: ``python docs/generate_sheet.py FOLDER``."""

from pathlib import Path

import click
from PIL import Image

OUT = Path(__file__).with_name("images") / "demo.png"
COLUMNS = 8
GAP = 4


def lay_out(pictures: list[Image.Image]) -> Image.Image:
    """The pictures, all of one size, in rows of COLUMNS on white."""
    width, height = (side + GAP for side in pictures[0].size)
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width - GAP, rows * height - GAP), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, ((i % COLUMNS) * width, (i // COLUMNS) * height))
    return sheet


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    OUT.parent.mkdir(exist_ok=True)
    lay_out([Image.open(path) for path in sorted(folder.glob("*.png"))]).save(OUT, optimize=True)
    click.echo(f"Wrote {OUT}.")


if __name__ == "__main__":
    main()
