"""Putting the images of a batch where its outdir wants them: single images, and grids of all of them.

An image there is the ledger's image under a second name, or a copy where the file system has no hard links.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row

from db import queries
from producer.errors import OutdirUnusable
from producer.numbered_files import NumberedFiles, add_named, folder_name
from producer.outdir import Notes
from producer.sheet import Entry, Sheet


class Placing:
    """Fills the outdir of one batch, in the order of its jobs."""

    def __init__(self, notes: Notes, engine: Engine, batch: Row[Any], images: Path, *, watermark: bool = False) -> None:
        """``images``: the root of all images. ``watermark``: whether the grids get one, as the images have."""
        self.notes, self.outdir = notes, notes.outdir
        self._engine, self._batch, self._images = engine, batch, images
        self._watermark = watermark
        self._last = 0
        self._files: dict[Path, NumberedFiles] = {}

    def advance(self) -> None:
        """Place what is finished, as far as nothing before it is still to be made.

        Raises:
            OutdirUnusable: the folder does not take it, or the images are on another machine.
        """
        for job in queries.outcomes(self._engine, self._batch.id, after=self._last):
            if not job.state.is_final:
                return
            self._place(job)
            self._last = job.id

    def finish(self) -> None:
        """Place all that is finished; once nothing is left to make, draw the grid.

        Raises:
            OutdirUnusable: as `advance` does.
            PictureUnreadable: one is no image any more.
        """
        left = False
        for job in queries.outcomes(self._engine, self._batch.id, after=self._last):
            left = left or not job.state.is_final
            self._place(job)
        if self.outdir.grid and not left and not self.notes.grids:
            self._draw_grid()

    def _place(self, job: Row[Any]) -> None:
        if self.outdir.singles and job.path and job.id not in self.notes.images:
            with self._refusing():
                self.notes.add_image(job.id, self._add(job))

    def _add(self, job: Row[Any]) -> Path:
        image = self._images / job.path
        if self.outdir.names == "compvis":
            return self._numbered("samples", "").add(image)
        if self.outdir.names == "init_image":
            return add_named(image, Path(self.outdir.folder), Path(job.init_image).stem)
        return self._numbered(folder_name(job.prompt), r"seed_\d+_").add(image, f"seed_{job.seed}_")

    def _numbered(self, name: str, head: str) -> NumberedFiles:
        folder = Path(self.outdir.folder, name)
        if folder not in self._files:
            self._files[folder] = NumberedFiles(folder, head=head, digits=5)
        return self._files[folder]

    def _draw_grid(self) -> None:
        first = next(queries.pictures(self._engine, self._batch.id), None)
        if first is None:
            return
        sheet = grid(self.outdir.columns, (first.image_width, first.image_height), self._batch.total)
        sheet = replace(sheet, watermark=self._watermark)
        with self._refusing():
            files = NumberedFiles(Path(self.outdir.folder), head="grid-", digits=4)
            for path in sheet.save(self._entries(), files, head="grid-", suffix=".png"):
                self.notes.add_grid(path)

    def _entries(self) -> Iterator[Entry]:
        for row in queries.pictures(self._engine, self._batch.id):
            if (path := self._images / row.image_path).is_file():
                yield Entry(path)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutdirUnusable(
                f"{error.filename or self.outdir.folder}: {error.strerror or error}. No image is lost; "
                f"`promptmill resume {self._batch.id}` fills {self.outdir.folder} when that is put right."
            ) from error


def grid(columns: int, cell: tuple[int, int], count: int) -> Sheet:
    """As make_grid of torchvision: images of that size with 2 pixels of black around each, none around a lone one."""
    margin = 0 if count == 1 else 2
    columns = min(columns, count)
    while columns > 1 and not Sheet(columns=columns, cell=cell).fits(columns, 1):
        columns -= 1
    return Sheet(columns=columns, cell=cell, margin=margin)
