"""What is said of prompt files that are wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.settings import DEFAULTS, read_toml
from producer.errors import InvalidPromptFile
from producer.prompts import PromptFile

BAD_ROWS = Path(__file__).with_name("data") / "bad_rows.csv"
JOB = read_toml(DEFAULTS)["job"]
HEADER = "prompt,seed,num_images\n"
TWENTY = """\
bad_rows.csv:5: prompt: is empty; a text of 1 to 8000 characters is needed
bad_rows.csv:6: prompt: has 8001 characters; at most 8000 are allowed
bad_rows.csv:7: holds a NUL character; save the file as UTF-8 text
bad_rows.csv:8: is not valid UTF-8; save the file as UTF-8
bad_rows.csv:9: has 1 cell where the header has 13; add the missing delimiters
bad_rows.csv:10: has 14 cells where the header has 13; quote cells that hold the delimiter
bad_rows.csv:11: has text after a closing quote; write a quote inside a quoted cell twice ("")
bad_rows.csv:12: seed: 'lucky' is not a whole number from 0 to 9223372036854775807 (empty: one is drawn)
bad_rows.csv:13: seed: '-1' is not a whole number from 0 to 9223372036854775807 (empty: one is drawn)
bad_rows.csv:14: steps: '20.5' is not a whole number from 1 to 1000
bad_rows.csv:15: CFG scale: 'nan' is not 0 or a number from 1 to 100
bad_rows.csv:16: CFG scale: '101' is not 0 or a number from 1 to 100
bad_rows.csv:17: sampler: 'Eular a' is not a known sampler; did you mean Euler a or Euler Karras or Euler?
bad_rows.csv:18: steps: 60 is not a whole number from 1 to 50, which sampler LCM takes
bad_rows.csv:19: W: '500' is not a whole number from 64 to 4096, a multiple of 8
bad_rows.csv:20: n_iter: '0' is not a whole number from 1 to 1000
bad_rows.csv:21: init_img: 'missing.png' is not an existing file; the path of an image is needed
bad_rows.csv:22: strength: '0' is not a number above 0, up to 1
bad_rows.csv:23: model: 'my-model' is not demo, a name of `promptmill models`, a file or folder, or a hub id such as \
owner/name
bad_rows.csv:24: has a quote that is opened and not closed; close it, so that the rows after it can be read
"""

Complain = Callable[..., str]


@pytest.fixture
def complain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Complain:
    """What is said of a file of this content."""
    monkeypatch.chdir(tmp_path)

    def complain(content: str | bytes, name: str = "a.csv", limit: int = 100) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidPromptFile) as caught:
            PromptFile(Path(name), defaults=JOB).check(limit)
        return str(caught.value)

    return complain


def test_twenty_kinds_of_bad_rows_give_twenty_clear_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD_ROWS.parent)
    with pytest.raises(InvalidPromptFile) as caught:
        PromptFile(Path(BAD_ROWS.name), defaults=JOB).check()
    assert str(caught.value).splitlines() == TWENTY.splitlines()
    assert (caught.value.total, caught.value.exit_code) == (20, 2)


def test_no_row_is_had_from_a_file_with_a_bad_one() -> None:
    rows = PromptFile(BAD_ROWS, defaults=JOB).rows()
    with pytest.raises(InvalidPromptFile, match=":5: prompt: is empty"):
        next(rows)


def test_rows_are_those_that_were_checked_even_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a cat\n")
    prompts = PromptFile(path, defaults=JOB)
    assert prompts.check() == 1
    path.write_text("a dog\na horse\n")
    assert [row.parameters.prompt for row in prompts.rows()] == ["a cat"]


def test_only_the_first_problems_are_kept_and_all_are_counted(complain: Complain) -> None:
    said = complain(HEADER + "cat,x,1\n" * 1000, limit=2)
    assert said.splitlines()[1:] == [
        "a.csv:3: seed: 'x' is not a whole number from 0 to 9223372036854775807 (empty: one is drawn)",
        "a.csv: 998 more problems",
    ]


def test_every_bad_cell_of_a_row_is_told(complain: Complain) -> None:
    said = complain(HEADER + ",x,1001\n")
    assert [line.split(": ")[1] for line in said.splitlines()] == ["seed", "num_images", "prompt"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a.csv: is empty; give at least one prompt"),
        ("\n \n", "a.csv: is empty; give at least one prompt"),
        ("prompt,seed\n", "a.csv: has a header and no rows; give at least one prompt"),
        (
            "seed,steps\n1,2\n",
            "a.csv:1: prompt: there is no such column, only seed, steps; name one prompt, text or caption",
        ),
        ("prompt,seed,\ncat,1,\n", "a.csv:1: column 3: has no heading; give it one, or remove the column"),
        (
            "prompt,cfg,scale\ncat,1,1\n",
            "a.csv:1: scale: gives scale a second time, after cfg; keep one of the two",
        ),
        (
            "prompt,size,W\ncat,64x64,64\n",
            "a.csv:1: W: gives width a second time, after size; keep one of the two",
        ),
        ("prompt,Note,Note\ncat,1,1\n", "a.csv:1: Note: gives tag Note a second time, after Note; keep one of the two"),
    ],
)
def test_a_file_without_rows_or_with_a_wrong_header_is_refused(complain: Complain, content: str, said: str) -> None:
    assert complain(content) == said


@pytest.mark.parametrize(
    ("header", "cell", "said"),
    [
        ("size", "512", "'512' is not a width and a height such as 512x768"),
        ("size", "512x100", "'100' is not a whole number from 64 to 4096, a multiple of 8"),
        ("steps", "1", "1 is not a whole number from 2 to 1000, which sampler Euler takes"),
        ("steps", "1e1", "'1e1' is not a whole number from 1 to 1000"),
        ("steps", "1_0", "'1_0' is not a whole number from 1 to 1000"),
        ("steps", "9" * 5000, f"'{'9' * 56}... is not a whole number from 1 to 1000"),
        ("scale", "0.5", "'0.5' is not 0 or a number from 1 to 100"),
        ("scale", "inf", "'inf' is not 0 or a number from 1 to 100"),
        ("scale", "1e999", "'1e999' is not 0 or a number from 1 to 100"),
        ("scale", "7:5", "'7:5' is not 0 or a number from 1 to 100"),
        ("eta", "1.1", "'1.1' is not a number from 0 to 1"),
        ("seed", str(2**63), f"'{2**63}' is not a whole number from 0 to {2**63 - 1} (empty: one is drawn)"),
        ("init_image", ".", "'.' is not an existing file; the path of an image is needed"),
        ("init_image", "a" * 300, f"'{'a' * 296}... is not an existing file; the path of an image is needed"),
        ("note", "x" * 8001, "has 8001 characters; at most 8000 are allowed"),
    ],
)
def test_a_bad_cell_is_told_with_what_is_allowed(complain: Complain, header: str, cell: str, said: str) -> None:
    assert complain(f"prompt,sampler,{header}\ncat,euler,{cell}\n") == f"a.csv:2: {header}: {said}"


def test_the_seed_of_the_last_image_must_fit_too(complain: Complain) -> None:
    assert complain(f"{HEADER}cat,{2**63 - 1},2").startswith(f"a.csv:2: seed: {2**63 - 1} is too large for 2 images")


@pytest.mark.usefixtures("picture")
def test_a_strength_that_leaves_no_step_is_refused(complain: Complain) -> None:
    said = complain("prompt,init_image,strength\ncat,cat.png,0.01\n")
    assert said == "a.csv:2: strength: 0.01 of 25 steps leaves no step to run; raise strength or steps"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "a.jsonl:2: '[1]' is not an object; one object a line is needed"),
        ('{"prompt": "cat"', "a.jsonl:2: is not valid JSON: "),
        ('{"a":' * 100_000, "a.jsonl:2: is not valid JSON: "),
        ('{"prompt": 5}', "a.jsonl:2: prompt: 5 is not text"),
        ('{"prompt": "\\ud800"}', "a.jsonl:2: prompt: holds a NUL character or half of a surrogate pair"),
        ('{"prompt": "cat", "steps": true}', "a.jsonl:2: steps: True is not a whole number"),
        ('{"prompt": "cat", "steps": 20.5}', "a.jsonl:2: steps: 20.5 is not a whole number"),
        ('{"prompt": "cat", "scale": NaN}', "a.jsonl:2: scale: nan is not 0 or a number from 1 to 100"),
        ('{"prompt": "cat", "steps": [20]}', "a.jsonl:2: steps: [20] is not"),
        ('{"prompt": "cat", "note": {"a": 1}}', "a.jsonl:2: note: holds a list or an object"),
        ('{"prompt": "cat", "text": "dog"}', "a.jsonl:2: text: gives prompt a second time, after prompt"),
        ('{"prompt": "cat", " ": 1}', "a.jsonl:2: has a member without a name"),
        ('{"seed": 1}', "a.jsonl:2: prompt: is empty"),
    ],
)
def test_a_bad_json_line_is_told(complain: Complain, line: str, said: str) -> None:
    whole = complain('{"prompt": "good"}\n' + line + "\n", "a.jsonl")
    assert whole.startswith(said)
    assert len(whole.splitlines()) == 1


def test_a_quote_that_swallows_the_file_is_told_where_it_opens(complain: Complain) -> None:
    said = complain('prompt,seed\n"cat,1\n' + "dog,2\n" * 50_000)
    assert said == "a.csv:2: has a cell of over 131072 characters: a quote that is opened here is not closed"


def test_a_line_without_an_end_is_not_read_into_memory(complain: Complain) -> None:
    assert complain(b"prompt\n" + b"x" * 3_000_000).splitlines()[0].startswith("a.csv:2: is longer than 1048576")


def test_half_a_utf_16_file_is_refused(complain: Complain) -> None:
    assert complain("prompt\ncat\n".encode("utf-16")[:-1]).endswith("is not valid UTF-16; save the file as UTF-8")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPromptFile, match=r"none\.csv: does not exist; give a file"):
        PromptFile(tmp_path / "none.csv", defaults=JOB)
    with pytest.raises(InvalidPromptFile, match="is a folder; give a file"):
        PromptFile(tmp_path, defaults=JOB)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_forbidden_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch(mode=0o000)
    with pytest.raises(InvalidPromptFile, match="cannot be read: Permission denied"):
        PromptFile(tmp_path / "a.csv", defaults=JOB)


@pytest.mark.parametrize(
    ("default", "said"),
    [
        ({"steps": 0}, "steps: 0 is not a whole number from 1 to 1000"),
        ({"stpes": 20}, "stpes: is no parameter of a job; there are negative_prompt, model"),
        ({"prompt": "cat"}, "prompt: is no parameter of a job"),
    ],
)
def test_a_bad_default_is_refused(default: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PromptFile(BAD_ROWS, defaults={**JOB, **default})
    assert str(caught.value).startswith(said)
