"""What is chosen on a page of the history, or all that its query finds: as a zip, a CSV or a contact sheet."""

import csv
import io
import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated
from zipfile import ZipFile

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from db.search import Query as Asked
from producer.contact_sheet import entry_of
from producer.errors import SheetRefused
from producer.export import Export, Rows
from producer.history import find_jobs
from producer.query import parse
from producer.sheet import Sheet
from producer.web.given import TheLedger, TheSettings
from producer.web.threads import DRAWING, in_pool

router = APIRouter(include_in_schema=False, prefix="/selection")

#: Jobs that are taken of all that a query finds, and images of a sheet.
MOST_JOBS, MOST_ON_SHEET = 10_000, 200
#: Checkboxes that a form may have ticked: conditions of one statement.
MOST_TICKED = 500
CELL, CAPTIONS = 256, ("job", "prompt")


class Selection:
    """Jobs in order of id, as often as they are wanted: those ticked, or all that the query finds."""

    def __init__(
        self,
        ledger: TheLedger,
        job: Annotated[list[int], Query(max_length=MOST_TICKED)] = [],  # noqa: B006 - never changed
        q: Annotated[str, Query(max_length=10_000)] = "",
        everything: bool = False,
    ) -> None:
        ids = [number for number in job if 0 < number < 2**63]
        ticked = f"id:{','.join(map(str, ids))}" if ids else "id:0"
        self.text = q if everything else ticked
        self.query: Asked = parse(self.text, time.time())
        self.rows: Rows = partial(find_jobs, ledger.engine, self.query, limit=MOST_JOBS, ascending=True)


Chosen = Annotated[Selection, Depends()]


@router.get("/zip")
def zip_images(chosen: Chosen, settings: TheSettings) -> Response:
    """The images, each as soon as it is read, and what is known of them."""
    parts = zip_parts(Export(chosen.rows, settings.images_root))
    return StreamingResponse(parts, media_type="application/zip", headers=_as_file("images.zip"))


@router.get("/csv")
def csv_lines(chosen: Chosen, settings: TheSettings) -> Response:
    """A prompt file that asks for the same images; no cell is a formula to a spreadsheet."""
    lines = map(_csv_line, Export(chosen.rows, settings.images_root, safe=True).lines())
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=_as_file("jobs.csv"))


@router.get("/sheet")
async def contact_sheet(chosen: Chosen, settings: TheSettings) -> Response:
    """One page of the first images, as a picture."""
    picture = await in_pool(DRAWING, partial(draw_sheet, chosen.rows, settings.images_root))
    return Response(picture, media_type="image/png", headers=_as_file("sheet.png"))


def zip_parts(export: Export) -> Iterator[bytes]:
    """A zip, image by image: one is in memory at a time. What is sent needs no going back, as a pipe's would."""
    outlet = Outlet()
    with ZipFile(outlet, "w") as archive:
        for _ in export.fill(archive):
            yield outlet.take()
    yield outlet.take()


class Outlet(io.BytesIO):
    """A file whose beginning is taken away as it grows; places in it count from its very start."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def take(self) -> bytes:
        """What was written since the last time."""
        found = self.getvalue()
        super().seek(0)
        super().truncate()
        self._taken += len(found)
        return found

    def tell(self) -> int:
        return self._taken + super().tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._taken + super().seek(offset if whence else offset - self._taken, whence)


def draw_sheet(rows: Rows, root: Path) -> bytes:
    """The first images as one PNG, nearly square. Raises SheetRefused where there is none."""
    found = (entry for row in rows() if (entry := entry_of(row, root, CAPTIONS)))
    entries = list(islice(found, MOST_ON_SHEET))
    if not entries:
        raise SheetRefused("None of these jobs has an image on this disk; choose others.")
    columns, lines = math.ceil(math.sqrt(len(entries))), len(CAPTIONS)
    sheet = Sheet(columns=columns, cell=(CELL, CELL), gap=4, margin=4, caption_lines=lines)
    drawn = io.BytesIO()
    next(sheet.pages(entries)).save(drawn, "PNG")
    return drawn.getvalue()


def _csv_line(cells: list[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="promptmill-{name}"'}
