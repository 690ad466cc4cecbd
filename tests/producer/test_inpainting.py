"""`promptmill inpaint`: what its flags mean, and what is refused before anything is recorded."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result
from PIL import Image

from configs.settings import read_settings
from db import queries
from db.ledger import Ledger
from producer.cli import cli
from producer.inpainting import Inpainting, read_inpainting
from producer.submit import record

Call = Callable[..., Result]


def read(*words: object) -> Inpainting:
    """What a command line asks for."""
    parent = click.Context(cli, **cli.context_settings)
    flags = cli.commands["inpaint"].make_context("inpaint", [str(word) for word in words], parent).params
    return read_inpainting(flags, read_settings({}, Path("/")))


def save(path: Path, size: tuple[int, int] = (100, 70)) -> str:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size).save(path)
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two pictures with their masks, and what is neither."""
    for name in ("dog.png", "dog_mask.png", "a cat.png", "a cat_mask.png", "alone.png"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path / "in"


def test_the_defaults_are_those_of_the_script(pairs: Path) -> None:
    row = read("--indir", pairs).parameters[0]
    assert (row.prompt, row.sampler, row.steps, row.strength, row.seed, row.compat) == ("", "DDIM", 50, 1, None, None)
    assert (row.width, row.height) == (96, 64)


def test_each_pair_of_a_folder_is_a_row_in_the_order_of_the_names(pairs: Path) -> None:
    found = [
        (Path(row.init_image or "").name, Path(row.mask_image or "").name) for row in read("--indir", pairs).parameters
    ]
    assert found == [("a cat.png", "a cat_mask.png"), ("dog.png", "dog_mask.png")]


def test_without_a_prompt_nothing_guides(pairs: Path) -> None:
    scales = [
        read("--indir", pairs, *words).parameters[0].scale for words in ([], ["--prompt", "a hat"], ["--scale", 3])
    ]
    assert scales == [1, 7.5, 3]


def test_one_line_says_what_takes_the_place_of_the_scripts_model(pairs: Path) -> None:
    (line,) = read("--indir", pairs).remarks()
    assert "took no prompt; here demo fills the masks, as --prompt says." in line


def test_a_prompt_that_is_too_long_is_warned_of_once(pairs: Path) -> None:
    assert read("--indir", pairs, "--prompt", "word " * 100).warnings.total == 1


def test_a_mask_of_another_size_is_warned_of(pairs: Path) -> None:
    save(pairs / "dog_mask.png", (50, 70))
    (problem,) = read("--indir", pairs).warnings.problems
    assert str(problem).endswith("in: dog_mask.png: has 50x70 pixels and its picture 100x70; it is stretched")


def test_the_pictures_are_recorded_as_jobs(home_ledger: Ledger, pairs: Path) -> None:
    asked = read("--indir", pairs, "--n_samples", 2, "--seed", 7)
    batch = record(asked.submission(16), home_ledger)
    jobs = [(Path(job.init_image).name, job.seed) for job in queries.outcomes(home_ledger.engine, batch.id)]
    assert (batch.name, jobs) == ("in", [("a cat.png", 7), ("a cat.png", 8), ("dog.png", 7), ("dog.png", 8)])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "inpaint needs --init-img with --mask, or --indir with pairs of NAME.png and NAME_mask.png."),
        (["--init-img", "in/dog.png"], "inpaint needs --init-img with --mask"),
        (["--indir", "in", "--mask", "in/dog_mask.png"], "--indir names pictures of its own; give it alone"),
        (["--indir", "none"], "--indir none: No such file or directory; name a folder."),
        (["--indir", "empty"], "--indir empty has no pair of files such as cat.png and cat_mask.png."),
        (["--indir", "half"], "half/dog.png' is not an existing file"),
        (["--indir", "bad"], "bad: dog.png: it has 32x64 pixels, and sides of 64 to 4096 are allowed"),
        (["--indir", "bad"], "bad/cat_mask.png cannot be read as a picture"),
        (["--init-img", "none.png"], "'none.png' is not an existing file"),
        (["--indir", "in", "--steps", "0"], "'0' is not a whole number from 1 to 1000."),
        (["--indir", "in", "--strength", "1.5"], "'1.5' is not a number above 0, up to 1."),
        (["--indir", "in", "--strength", "0.01"], "--strength: 0.01 of 50 steps leaves no step to run"),
        (["--indir", "in", "--scale", "0.5"], "'0.5' is not a number from 1 to 100."),
        (["--indir", "in", "--sampler", "plms"], "--sampler: PLMS cannot begin from an image"),
        (["--indir", "in", "--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--indir", "in", "--ckpt", "sd.ckpt"], "--ckpt sd.ckpt does not exist"),
        (["--indir", "in", "--outdir", "in/dog.png"], "--outdir in/dog.png is not a folder"),
    ],
)
@pytest.mark.usefixtures("pairs")
def test_inpaint_refuses_before_anything_is_recorded(
    promptmill: Call, home: Path, words: list[str], sentence: str
) -> None:
    Path("empty").mkdir()
    save(Path("half", "dog_mask.png"))
    save(Path("bad", "dog.png"), (32, 64))
    save(Path("bad", "dog_mask.png"))
    save(Path("bad", "cat.png"))
    Path("bad", "cat_mask.png").write_text("no picture")
    result = promptmill("inpaint", *words)
    assert (result.exit_code, sentence in result.stderr) == (2, True), result.output
    assert not home.exists()
