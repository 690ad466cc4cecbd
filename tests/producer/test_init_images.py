"""Init images and masks of prompt files: the size they give, and what is wrong with them before anything is queued."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from configs.roots import Roots
from configs.settings import DEFAULTS, read_toml
from producer.errors import InvalidPromptFile
from producer.prompts import PromptFile, Row

JOB = read_toml(DEFAULTS)["job"]
Read = Callable[..., Row]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The only row of a file with these cells, beside a prompt and an init image."""

    def read(roots: Roots | None = None, **cells: str) -> Row:
        cells = {"prompt": "cat", "init_image": "cat.png", **cells}
        (tmp_path / "a.csv").write_text(f"{','.join(cells)}\n{','.join(cells.values())}\n")
        (row,) = PromptFile(tmp_path / "a.csv", defaults=JOB, roots=roots).rows()
        return row

    return read


@pytest.fixture
def complain(read: Read) -> Callable[..., str]:
    """What is said of such a file, from the name of the column on."""

    def complain(roots: Roots | None = None, **cells: str) -> str:
        with pytest.raises(InvalidPromptFile) as caught:
            read(roots, **cells)
        assert caught.value.total == 1
        return str(caught.value).partition("a.csv:2: ")[2]

    return complain


def size(row: Row) -> tuple[int, int]:
    return row.parameters.width, row.parameters.height


@pytest.mark.usefixtures("picture")
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({}, (496, 328)),
        ({"compat": "compvis", "sampler": "DDIM"}, (480, 320)),
        ({"compat": "optimized", "sampler": "DDIM"}, (448, 320)),
        ({"width": "256"}, (256, 168)),
        ({"height": "128"}, (192, 128)),
        ({"width": "64", "height": "96"}, (64, 96)),
        ({"size": "64x96"}, (64, 96)),
    ],
)
def test_the_size_is_the_init_images(read: Read, cells: dict[str, str], expected: tuple[int, int]) -> None:
    assert size(read(**cells)) == expected


def test_a_picture_that_lies_on_its_side_is_taken_upright(read: Read, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (500, 333)).save(tmp_path / "lying.jpg", exif=exif)
    assert size(read(init_image="lying.jpg")) == (328, 496)


@pytest.mark.parametrize("pixels", [(63, 500), (500, 40), (5000, 64)])
def test_a_picture_that_gives_no_size_needs_one(
    read: Read, complain: Callable[..., str], tmp_path: Path, pixels: tuple[int, int]
) -> None:
    Image.new("L", pixels).save(tmp_path / "cat.png")
    said = f"init_image: it has {pixels[0]}x{pixels[1]} pixels, and sides of 64 to 4096 are allowed"
    assert complain() == f"{said}; give width and height"
    assert size(read(width="64", height="64")) == (64, 64)


@pytest.mark.usefixtures("picture")
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"init_image": "", "mask_image": "cat.png"}, "mask_image: there is no init_image for it to lie on; name one"),
        ({"strength": "1.5"}, "strength: '1.5' is not a number above 0, up to 1"),
        ({"strength": "0.75", "steps": "1"}, "strength: 0.75 of 1 steps leaves no step to run"),
        ({"sampler": "plms"}, "sampler: PLMS cannot begin from an image; DDIM is near to it"),
        ({"mask_image": "no.png"}, "mask_image: "),
        ({"mask_image": "a.csv"}, "mask_image: "),
        ({"compat": "compvis", "sampler": "DDIM", "mask_image": "cat.png"}, "mask_image: there is none with compat"),
    ],
)
def test_what_cannot_be_made_is_reported_by_row(complain: Callable[..., str], cells: dict[str, str], said: str) -> None:
    assert complain(**cells).startswith(said)


def test_the_own_sampler_is_refused_where_it_is_plms(
    complain: Callable[..., str], picture: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "old" / "scheduler" / "scheduler_config.json"
    saved.parent.mkdir(parents=True)
    saved.write_text('{"_class_name": "PNDMScheduler"}')
    said = complain(model=str(tmp_path / "old"), sampler="Own", init_image=str(picture))
    assert said.startswith("sampler: Own is PLMS in this checkpoint, which cannot begin from an image")


@pytest.mark.parametrize("column", ["init_image", "mask_image"])
def test_a_picture_outside_the_roots_is_refused(
    read: Read, complain: Callable[..., str], picture: Path, tmp_path: Path, column: str
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.png").symlink_to(picture)
    kept = inside / "kept.png"
    kept.write_bytes(picture.read_bytes())
    roots = Roots([inside])
    for way in ("inside/link.png", "inside/../cat.png", "cat.png"):
        cells = {"init_image": "inside/kept.png", column: way}
        assert complain(roots, **cells).startswith(f"{column}: {picture} is outside the folders")
    assert read(roots, **{"init_image": "inside/kept.png", column: "inside/kept.png"})
