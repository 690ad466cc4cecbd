"""What `txt2img` leaves in its outdir, from a batch whose images are there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Row

from configs.watermark import is_marked
from db import queries
from db.ledger import Ledger, NewBatch
from producer.errors import OutdirUnusable
from producer.outdir import Outdir, begin_notes, open_notes
from producer.placing import Placing, grid
from tests.db.conftest import IMAGE, job

Finish = Callable[..., None]


class Batch:
    """A batch of some jobs in a ledger, which become images of 8x8 pixels when they are told to."""

    def __init__(self, ledger: Ledger, home: Path, prompts: list[str], **parameters: Any) -> None:
        self.ledger, self.home = ledger, home
        batch_id = ledger.create_batch(
            NewBatch(name="t", slug="t", source_sha256="0" * 64, image_format="png", total=len(prompts))
        )
        ledger.add_jobs([job(batch_id, prompt=prompt, seed=42 + n, **parameters) for n, prompt in enumerate(prompts)])
        ledger.open_batch(batch_id)
        self.row: Row[Any] = queries.find_batch(ledger.engine, str(batch_id))
        self.jobs = [row.id for row in queries.outcomes(ledger.engine, batch_id)]

    def finish(self, *numbers: int, side: int = 8) -> None:
        for claim in self.ledger.start_jobs([self.jobs[number] for number in numbers], "w", 60):
            path = self.home / "images" / f"{claim.job_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side, side), (10 * claim.job_id, 0, 0)).save(path)
            self.ledger.finish_job(claim, {**IMAGE, "path": path.name, "width": side, "height": side})

    def place(self, *, final: bool = True, watermark: bool = False) -> list[str]:
        """Fill the outdir; what is in it then."""
        with open_notes(self.home, self.row) as notes:
            assert notes
            placing = Placing(notes, self.ledger.engine, self.row, self.home / "images", watermark=watermark)
            placing.finish() if final else placing.advance()
            folder = Path(notes.outdir.folder)
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))

    def wants(self, **outdir: Any) -> "Batch":
        begin_notes(self.home, self.row, Outdir(**{"folder": "out", "names": "compvis", "columns": 2, **outdir}))
        return self


@pytest.fixture
def batch(home: Path, home_ledger: Ledger) -> Callable[..., Batch]:
    return lambda *prompts, **parameters: Batch(home_ledger, home, list(prompts) or ["a cat"] * 3, **parameters)


def test_single_images_and_a_grid_are_where_the_script_put_them(batch: Callable[..., Batch]) -> None:
    made = batch().wants()
    made.finish(0, 1, 2)
    assert made.place() == ["grid-0000.png", "samples/00000.png", "samples/00001.png", "samples/00002.png"]


def test_the_grid_has_two_black_pixels_around_each_image(batch: Callable[..., Batch]) -> None:
    made = batch().wants()
    made.finish(0, 1, 2)
    made.place()
    with Image.open("out/grid-0000.png") as image:
        page = np.asarray(image)[:, :, 0]
    assert page.shape == (22, 22)
    assert [page[4, 4], page[4, 14], page[14, 4], page[14, 14]] == [10, 20, 30, 0]
    assert page[:2].max() == page[:, 10:12].max() == 0


@pytest.mark.parametrize("watermark", [True, False])
def test_a_grid_has_the_watermark_where_images_have_it(batch: Callable[..., Batch], watermark: bool) -> None:
    made = batch("a cat").wants(singles=False)
    made.finish(0, side=256)
    made.place(watermark=watermark)
    with Image.open("out/grid-0000.png") as image:
        assert is_marked(np.asarray(image)) == watermark


def test_a_lone_image_is_its_own_grid() -> None:
    assert grid(1, (512, 512), 1).size(1, 1) == (512, 512)


def test_fifty_images_below_each_other_are_one_grid_as_ever() -> None:
    sheet = grid(1, (512, 512), 50)
    assert sheet.size(1, 50) == (516, 25702)
    assert sheet.page_rows() > 50


def test_a_grid_of_many_columns_is_made_narrower() -> None:
    assert grid(1000, (512, 512), 1000).columns == 126


def test_a_second_run_goes_on_with_the_numbers(batch: Callable[..., Batch]) -> None:
    for _ in range(2):
        made = batch("a cat").wants()
        made.finish(0)
        found = made.place()
    assert found == ["grid-0000.png", "grid-0001.png", "samples/00000.png", "samples/00001.png"]


def test_images_come_as_they_are_finished_in_the_jobs_order(batch: Callable[..., Batch]) -> None:
    made = batch().wants()
    made.finish(1)
    assert made.place(final=False) == []
    made.finish(0)
    assert made.place(final=False) == ["samples/00000.png", "samples/00001.png"]
    assert Path("out/samples/00000.png").samefile(made.home / "images" / f"{made.jobs[0]}.png")


def test_a_stopped_batch_goes_on_where_it_stood(batch: Callable[..., Batch]) -> None:
    made = batch().wants()
    made.finish(0, 2)
    assert made.place() == ["samples/00000.png", "samples/00001.png"]
    made.finish(1)
    everything = ["grid-0000.png", "samples/00000.png", "samples/00001.png", "samples/00002.png"]
    assert [made.place(), made.place()] == [everything, everything]


def test_a_note_that_was_cut_off_costs_one_image_twice_and_no_more(batch: Callable[..., Batch]) -> None:
    made = batch().wants(grid=False)
    made.finish(0)
    made.place()
    notes = next((made.home / "outdirs").iterdir())
    notes.write_bytes(notes.read_bytes()[:-5])
    made.finish(1)
    assert made.place() == made.place() == ["samples/00000.png", "samples/00001.png", "samples/00002.png"]


def test_while_one_process_fills_the_outdir_another_leaves_it_alone(batch: Callable[..., Batch]) -> None:
    made = batch().wants()
    with open_notes(made.home, made.row) as first, open_notes(made.home, made.row) as second:
        assert first
        assert second is None


def test_a_batch_of_a_prompt_file_has_no_outdir(batch: Callable[..., Batch]) -> None:
    made = batch()
    with open_notes(made.home, made.row) as notes:
        assert notes is None


def test_notes_of_another_ledger_are_not_ours(batch: Callable[..., Batch], home: Path, tmp_path: Path) -> None:
    from db.migrate import open_ledger

    batch("a cat").wants()
    other = Batch(open_ledger(f"sqlite:///{tmp_path}/other.sqlite3"), home, ["a dog"])
    with open_notes(home, other.row) as notes:
        assert notes is None


def test_the_forks_folders_are_named_after_the_prompts(batch: Callable[..., Batch]) -> None:
    made = batch("a cat", "a cat", "who? me/you").wants(names="optimized", grid=False)
    made.finish(0, 1, 2)
    assert made.place() == ["a_cat/seed_42_00000.png", "a_cat/seed_43_00001.png", "who__me_you/seed_44_00000.png"]


def test_what_is_painted_into_a_picture_has_its_name_and_overwrites_nothing(batch: Callable[..., Batch]) -> None:
    Path("out").mkdir()
    Path("out/my cat.png").write_text("mine")
    made = batch(init_image="in/my cat.png").wants(names="init_image", grid=False)
    made.finish(0, 1, 2)
    assert made.place() == ["my cat-2.png", "my cat-3.png", "my cat-4.png", "my cat.png"]
    assert Path("out/my cat.png").read_text() == "mine"


def test_notes_of_an_earlier_version_are_read(batch: Callable[..., Batch]) -> None:
    made = batch("a cat").wants(names="optimized", grid=False)
    notes = next((made.home / "outdirs").iterdir())
    assert b'"compat":"optimized"' in notes.read_bytes()


def test_without_single_images_there_is_a_grid(batch: Callable[..., Batch]) -> None:
    made = batch().wants(singles=False)
    made.finish(0, 1, 2)
    assert made.place() == ["grid-0000.png"]


def test_an_outdir_that_cannot_be_written_to_is_a_sentence(batch: Callable[..., Batch]) -> None:
    made = batch().wants(folder="out")
    made.finish(0)
    Path("out").write_text("a file")
    with pytest.raises(OutdirUnusable, match=r"`promptmill resume 1` fills out when that is put right"):
        made.place()
    Path("out").unlink()
    assert made.place() == ["samples/00000.png"]
