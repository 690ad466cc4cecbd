"""Pages of pictures in rows: the originals' grids, and contact sheets.

A page is filled from one file after the other, so that memory holds one page and one picture, however many there are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from configs.plain_text import plain
from producer.errors import SheetRefused
from producer.numbered_files import NumberedFiles, draft
from producer.picture import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

#: Pixels a page may have on a side: JPEG counts no further than 65,535, and many programs stop there.
LONGEST_SIDE = 65_000
#: Pixels of a page: 200 MB while it is made, and below what Pillow and browsers take for an attack.
MOST_PIXELS = 1 << 26
#: Pixels of a line of a caption.
LINE_HEIGHT = 14
INK = {"black": "white", "white": "black"}


class Entry(NamedTuple):
    """A picture's file, and what stands under the picture, a line each."""

    path: Path
    caption: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """How a page looks. Sizes are in pixels; a picture that is larger than its cell is made smaller."""

    columns: int
    #: Rows of a full page; as many as a page may have where this is None.
    rows: int | None = None
    cell: tuple[int, int]
    #: Between two cells.
    gap: int = 2
    #: Around all of them.
    margin: int = 2
    ground: str = "black"
    caption_lines: int = 0
    #: Whether a page gets the invisible watermark, which small pages do not hold.
    watermark: bool = False

    @property
    def stride(self) -> tuple[int, int]:
        """From one cell to the next."""
        width, height = self.cell
        return width + self.gap, height + self.caption_lines * LINE_HEIGHT + self.gap

    def size(self, columns: int, rows: int) -> tuple[int, int]:
        """Of a page with that many cells across and down."""
        across, down = self.stride
        border = 2 * self.margin - self.gap
        return columns * across + border, rows * down + border

    def fits(self, columns: int, rows: int) -> bool:
        """Whether a page of that many cells is of a size that files and programs take."""
        width, height = self.size(columns, rows)
        return max(width, height) <= LONGEST_SIDE and width * height <= MOST_PIXELS

    def page_rows(self) -> int:
        """Rows of a full page. Raises SheetRefused when they, or a single one, are too large."""
        if not self.fits(self.columns, self.rows or 1):
            raise SheetRefused(_too_large(self))
        if self.rows:
            return self.rows
        width, _ = self.size(self.columns, 1)
        most = min(LONGEST_SIDE, MOST_PIXELS // width)
        return (most - 2 * self.margin + self.gap) // self.stride[1]

    def pages(self, entries: Iterable[Entry]) -> "Iterator[Image]":
        """The entries in reading order, a page at a time. Raises PictureUnreadable, SheetRefused."""
        return map(self._draw, self._parts(entries))

    def save(self, entries: Iterable[Entry], files: NumberedFiles, *, head: str, suffix: str) -> Iterator[Path]:
        """Save the pages as new numbered files, each when it is asked for. Raises as `pages` does, and OSError."""
        for part in self._parts(entries):
            with draft(files.folder, suffix) as path:
                self._draw(part).save(path)
                saved = files.add(path, head)
            yield saved

    def _parts(self, entries: Iterable[Entry]) -> Iterator[list[Entry]]:
        remaining = iter(entries)
        size = self.columns * self.page_rows()
        while part := list(islice(remaining, size)):
            yield part

    def _draw(self, entries: Sequence[Entry]) -> "Image":
        from PIL import Image, ImageDraw

        columns = min(self.columns, len(entries))
        page = Image.new("RGB", self.size(columns, -(-len(entries) // columns)), self.ground)
        pen = ImageDraw.Draw(page)
        for number, entry in enumerate(entries):
            row, column = divmod(number, columns)
            at = (self.margin + column * self.stride[0], self.margin + row * self.stride[1])
            self._paste(page, entry.path, at)
            self._write(pen, entry.caption, at)
        return _mark(page) if self.watermark else page

    def _paste(self, page: "Image", path: Path, at: tuple[int, int]) -> None:
        """A picture in the middle of the cell that begins there."""
        from PIL import Image

        with open_picture(path) as picture:
            picture.thumbnail(self.cell, Image.Resampling.LANCZOS)
            x, y = ((room - side) // 2 for room, side in zip(self.cell, picture.size, strict=True))
            page.paste(picture, (at[0] + x, at[1] + y))

    def _write(self, pen: "ImageDraw", caption: Sequence[str], at: tuple[int, int]) -> None:
        x, y = at[0], at[1] + self.cell[1] + 1
        for line in caption[: self.caption_lines]:
            pen.text((x, y), _cut(line, self.cell[0]), fill=INK[self.ground], font=_font())
            y += LINE_HEIGHT


def _mark(page: "Image") -> "Image":
    import numpy as np
    from PIL import Image

    from configs.watermark import embed

    return Image.fromarray(embed(np.asarray(page)))


def _too_large(sheet: Sheet) -> str:
    width, height = sheet.size(sheet.columns, sheet.rows or 1)
    return (
        f"A page of {width}x{height} pixels is too large for an image file; at most {LONGEST_SIDE} a side and "
        f"{MOST_PIXELS // 1_000_000} million in all are allowed, so take fewer or smaller pictures a page."
    )


@cache
def _font() -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(11)


def _cut(text: str, width: int) -> str:
    """The start of a line that is no wider than that."""
    # Nothing is narrower than a pixel, and a font without the letter must not end the sheet.
    line = plain(text)[:width]
    if _length(line) <= width:
        return line
    fewest, most = 0, len(line)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fewest, most = (middle, most) if _length(line[:middle] + "...") <= width else (fewest, middle - 1)
    return line[:fewest] + "..."


def _length(text: str) -> float:
    return _font().getlength(text)
