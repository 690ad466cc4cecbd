"""Pages of pictures: where each picture is, how large a page gets, and what it costs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from db.ledger import Ledger
from producer.errors import PictureUnreadable
from producer.sheet import LINE_HEIGHT, LONGEST_SIDE, MOST_PIXELS, Entry, Sheet
from tests.db.conftest import IMAGE

Call = Callable[..., Result]
Draw = Callable[..., Path]
#: Draws a sheet of so many pictures; prints the most memory it took, in kB.
SAVER = """
import resource, sys
from pathlib import Path
from producer.numbered_files import NumberedFiles
from producer.sheet import Entry, Sheet
picture, folder, count = sys.argv[1:]
sheet = Sheet(columns=5, rows=5, cell=(512, 512))
entries = (Entry(Path(picture)) for _ in range(int(count)))
list(sheet.save(entries, NumberedFiles(Path(folder), digits=2), head="", suffix=".png"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Saves a picture of one colour."""

    def save(name: str, colour: Any = "red", size: tuple[int, int] = (8, 8)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return save


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_pictures_stand_in_reading_order_on_the_ground(draw: Draw) -> None:
    entries = [Entry(draw(f"{n}.png", (n, n, n))) for n in (50, 100, 150)]
    page = np.asarray(next(Sheet(columns=2, cell=(8, 8)).pages(entries)))
    assert page.shape == (22, 22, 3)
    assert [page[4, 4, 0], page[4, 14, 0], page[14, 4, 0], page[14, 14, 0]] == [50, 100, 150, 0]
    assert page[2:10, 2:10].min() == 50
    assert page[:2].max() == page[:, :2].max() == page[10:12].max() == page[:, 10:12].max() == 0


def test_pages_have_the_rows_asked_for(draw: Draw) -> None:
    path = draw("a.png")
    pages = list(Sheet(columns=2, rows=2, cell=(8, 8)).pages([Entry(path)] * 9))
    assert [page.size for page in pages] == [(22, 22), (22, 22), (12, 12)]


def test_a_large_picture_is_made_smaller_and_stays_in_shape(draw: Draw) -> None:
    page = np.asarray(next(Sheet(columns=1, cell=(16, 16), margin=0).pages([Entry(draw("a.png", "red", (64, 32)))])))
    assert page.shape == (16, 16, 3)
    assert page[4:12, :, 0].min() == 255
    assert page[:4].max() == page[12:].max() == 0


def test_a_caption_stands_under_its_picture_and_is_cut_to_its_width(draw: Draw) -> None:
    sheet = Sheet(columns=1, cell=(64, 64), margin=0, ground="white", caption_lines=1)
    page = np.asarray(next(sheet.pages([Entry(draw("a.png", "white", (64, 64)), ("a red\n circle" * 20,))])))
    assert page.shape == (64 + LINE_HEIGHT, 64, 3)
    assert page[:64].min() == 255
    assert page[64:].min() < 128


@pytest.mark.parametrize("caption", ["", "日本語 🎨", "\x1b[2J\0", "x" * 8000])
def test_any_text_can_be_a_caption(draw: Draw, caption: str) -> None:
    sheet = Sheet(columns=1, cell=(32, 32), caption_lines=2)
    assert len(list(sheet.pages([Entry(draw("a.png"), (caption, caption, caption))]))) == 1


@pytest.mark.parametrize("columns", [1, 3, 50])
def test_a_page_without_rows_is_as_large_as_files_and_programs_take(columns: int) -> None:
    sheet = Sheet(columns=columns, cell=(512, 512))
    width, height = sheet.size(columns, sheet.page_rows())
    assert max(width, height) <= LONGEST_SIDE
    assert MOST_PIXELS - 514 * width < width * height <= MOST_PIXELS or height > LONGEST_SIDE - 514


def test_memory_does_not_grow_with_the_pages(draw: Draw, tmp_path: Path) -> None:
    """A page has 20 MB."""
    command = [sys.executable, "-c", SAVER, draw("a.png", size=(512, 512)), tmp_path / "sheets"]
    one, ten = (int(subprocess.check_output([*command, str(25 * pages)], text=True)) for pages in (1, 10))
    assert len(list((tmp_path / "sheets").iterdir())) == 11
    assert ten - one < 10_000


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(PictureUnreadable, match=r"a\.png cannot be read as a PNG"):
        list(Sheet(columns=1, cell=(8, 8)).pages([Entry(tmp_path / "a.png")]))


@pytest.fixture
def finished(promptmill: Call, home: Path, home_ledger: Ledger, draw: Draw) -> int:
    """A batch of five jobs, four of which have their image."""
    Path("cats.csv").write_text("prompt,seed,num_images\na cat,7,5\n")
    assert promptmill("submit", "cats.csv").exit_code == 0
    for number, claim in enumerate(home_ledger.start_jobs([1, 2, 3, 4], "w", 60)):
        path = f"0001-cats/{number}.png"
        draw(str(home / "images" / path), (40 * number + 40, 0, 0))
        home_ledger.finish_job(claim, {**IMAGE, "path": path, "width": 8, "height": 8})
    return 4


@pytest.mark.usefixtures("finished")
def test_a_batch_becomes_numbered_pages(promptmill: Call) -> None:
    for pages in (["0001-cats-00.png", "0001-cats-01.png"], ["0001-cats-02.png", "0001-cats-03.png"]):
        result = promptmill("sheet", "--columns", 2, "--rows", 1, "--cell", 16, "--caption", "seed")
        assert (result.exit_code, result.stdout.splitlines()) == (0, pages)
    assert size_of("0001-cats-00.png") == (2 * 16 + 3 * 4, 16 + LINE_HEIGHT + 2 * 4)


@pytest.mark.usefixtures("finished")
def test_one_page_has_the_name_it_is_given(promptmill: Call) -> None:
    assert promptmill("sheet", "cats.csv", "-o", "new/all.jpg").stdout == "new/all.jpg\n"
    content = Path("new/all.jpg").read_bytes()
    result = promptmill("sheet", "-o", "new/all.jpg")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: new/all.jpg is there already; name another file, or a folder.\n",
    )
    assert Path("new/all.jpg").read_bytes() == content
    assert sorted(path.name for path in Path("new").iterdir()) == ["all.jpg"]


@pytest.mark.usefixtures("finished")
def test_an_image_that_was_deleted_is_left_out(promptmill: Call, home: Path) -> None:
    (home / "images/0001-cats/1.png").unlink()
    result = promptmill("sheet", "--cell", 16, "--columns", 4)
    assert (result.exit_code, result.stderr) == (0, "1 images are not on this disk any more.\n")
    assert size_of("0001-cats-00.png") == (3 * 20 + 4, 24)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-o", "all.gif"], "all.gif is neither a folder nor a file of .png, .jpg, .jpeg, .webp."),
        (["--columns", 200, "--rows", 200, "--cell", 4096], "is too large for an image file"),
        (["-o", "cats.csv/sheets"], "name another place with -o"),
    ],
)
@pytest.mark.usefixtures("finished")
def test_a_sheet_that_cannot_be_is_refused(promptmill: Call, words: list[str], sentence: str) -> None:
    result = promptmill("sheet", *words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert sentence in result.stderr


def test_a_batch_without_images_has_no_sheet(promptmill: Call) -> None:
    promptmill("submit", "-", text="a cat\n")
    result = promptmill("sheet")
    assert result.exit_code == 2
    assert "has no images to show" in result.stderr
    assert not list(Path().glob("*.png"))
