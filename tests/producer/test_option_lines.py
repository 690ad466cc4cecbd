"""Lines of options, as A1111 reads them from a file."""

import io
import re
import sys
from pathlib import Path

import pytest

from configs.errors import InvalidParameter
from configs.settings import DEFAULTS, read_toml
from producer.errors import InvalidPromptFile
from producer.option_lines import read_options
from producer.prompts import PromptFile

JOB = read_toml(DEFAULTS)["job"]
LINE = (
    '--prompt "it\'s a cat" --negative_prompt ugly, bad --steps 30 --cfg_scale 7 --seed 1 --width 512 --height 256 '
    "--sampler_name 'euler a' --n_iter 2 --batch_size 3 --do_not_save_grid true --restore_faces false --subseed -1"
)


def prompt_file(folder: Path, text: str, name: str = "a.txt") -> PromptFile:
    (folder / name).write_text(text, encoding="utf-8")
    return PromptFile(folder / name, defaults=JOB)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.prompts"])
def test_a_line_of_options_is_a_row(tmp_path: Path, name: str) -> None:
    row, plain = prompt_file(tmp_path, f"{LINE}\n\na plain prompt, --ar 16:9\n", name).rows()
    found = row.parameters
    assert (found.prompt, found.negative_prompt, found.sampler) == ("it's a cat", "ugly, bad", "Euler a")
    assert (found.steps, found.scale, found.seed, found.width, found.height) == (30, 7.0, 1, 512, 256)
    assert (found.num_images, row.tags, row.line) == (6, {}, 1)
    assert (plain.parameters.prompt, plain.line) == ("a plain prompt, --ar 16:9", 3)


def test_standard_input_may_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'--prompt "a, b" --seed -1\n')))
    (row,) = PromptFile("-", defaults=JOB).rows()
    assert (row.parameters.prompt, row.parameters.seed) == ("a, b", None)


def test_options_inside_a_prompt_are_text_and_that_is_said_once(tmp_path: Path) -> None:
    file = prompt_file(tmp_path, "a cat --steps 20 x\na dog --steps 30 x\n")
    assert [row.parameters.prompt for row in file.rows()] == ["a cat --steps 20 x", "a dog --steps 30 x"]
    ((line, message), *others) = [(problem.line, problem.message) for problem in file.warnings.problems]
    assert (line, message, others) == (
        1, "has options in it, which are taken as text; lines of options begin with --prompt", [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--prompt it's", 'has a quote that is not closed; put a text with a \' in it between ""'),
        ("--prompt a --steps", "--steps has no value; give it one"),
        ("--prompt a --steps 3 4", "--steps has 2 values; put a text of several words between quotes"),
        ("--prompt a --prompt b", "--prompt is there twice; keep one of the two"),
        ("--prompt a --scale 3 --cfg_scale 4", "--cfg_scale gives scale a second time, after scale; keep one"),
        ("--prompt a --stepz 3", "--stepz is no option; did you mean steps?"),
        ("--prompt a --zzzz 3", "--zzzz is no option; there are prompt, negative_prompt, sd_model"),
        ("--prompt a --tiling true", "--tiling is not to be had here; take it out"),
        ("--prompt a --sampler_index 3", "--sampler_index is not to be had here; name it with --sampler_name"),
    ],
)
def test_what_a1111_would_take_for_a_prompt_is_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(message)):
        read_options(line, Path())


def test_what_is_wrong_is_said_with_its_line(tmp_path: Path) -> None:
    file = prompt_file(tmp_path, "a cat\n--steps 3\n--prompt a --steps x\n--prompt it's\n--prompt a --styles b\n")
    with pytest.raises(InvalidPromptFile) as error:
        file.check()
    assert str(error.value).replace(f"{tmp_path}/", "").splitlines() == [
        "a.txt:2: prompt: is empty; a text of 1 to 8000 characters is needed",
        "a.txt:3: steps: 'x' is not a whole number from 1 to 1000",
        'a.txt:4: has a quote that is not closed; put a text with a \' in it between ""',
        "a.txt:5: --styles: needs a file of styles; give one with --styles",
    ]
