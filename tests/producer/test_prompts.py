"""What is read from prompt files."""

import csv
import hashlib
import io
import os
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.settings import DEFAULTS, read_toml
from producer.columns import ALIASES
from producer.errors import InvalidPromptFile
from producer.prompts import PromptFile, Row

JOB = read_toml(DEFAULTS)["job"]
PARTI = Path(__file__).parents[3] / "shared" / "data" / "PartiPrompts.tsv"
NOTES = ("Note", "odd; heading")

Read = Callable[..., list[Row]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The rows of a file of this content."""

    def read(content: str | bytes, name: str = "a.csv", **defaults: object) -> list[Row]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(PromptFile(path, defaults={**JOB, **defaults}).rows())

    return read


def prompts(rows: Sequence[Row]) -> list[str]:
    return [row.parameters.prompt for row in rows]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "prompts"])
def test_the_delimiter_is_found(read: Read, delimiter: str, name: str) -> None:
    (row,) = read(delimiter.join(("seed", "Prompt", "Note")) + "\n" + delimiter.join(("7", "a cat", "x")), name)
    assert (row.parameters.seed, row.parameters.prompt, row.tags) == (7, "a cat", {"Note": "x"})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.csv", ["prompt", "ein Küken 🐤"]),
        ("a.txt", ["ein Küken 🐤"]),
        ("a.jsonl", ['{"prompt": "ein Küken 🐤"}']),
    ],
)
def test_encodings_and_line_ends_are_found(read: Read, encoding: str, end: str, name: str, lines: list[str]) -> None:
    mark = "\ufeff" if "16" in encoding else ""
    assert prompts(read((mark + end.join(lines) + end).encode(encoding), name)) == ["ein Küken 🐤"]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.prompts"])
def test_plain_text_is_a_prompt_a_line(read: Read, name: str) -> None:
    rows = read("# not a comment\n\n a cat, a dog \r\n{red|blue} bird\n", name)
    assert prompts(rows) == ["# not a comment", " a cat, a dog ", "{red|blue} bird"]
    assert [row.line for row in rows] == [1, 3, 4]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a"])
def test_json_lines_are_rows(read: Read, name: str) -> None:
    first, second = read(
        '\n{"prompt": "cat", "cfg": 3, "n": "2", "size": "64x128", "Note": true}\n{"text": "dog", "seed": null}', name
    )
    found = first.parameters
    assert (first.line, found.scale, found.num_images, found.width, found.height) == (2, 3.0, 2, 64, 128)
    assert (first.tags, second.parameters.prompt, second.parameters.seed) == ({"Note": "true"}, "dog", None)


def test_a_row_stands_at_the_line_where_it_starts(read: Read) -> None:
    rows = read('prompt,Note\n\n"two\nlines","three\r\nmore\nlines"\n,\ncat,\n')
    assert [(row.line, row.parameters.prompt) for row in rows] == [(3, "two\nlines"), (8, "cat")]
    assert rows[0].tags == {"Note": "three\r\nmore\nlines"}


@pytest.mark.parametrize(
    ("heading", "name"), [(word, name) for name, words in ALIASES.items() for word in (name, *words.split())]
)
def test_every_alias_gives_its_parameter_however_it_is_written(
    read: Read, picture: Path, heading: str, name: str
) -> None:
    cells = {
        "prompt": "cat", "size": "64x64", "model": "a/b", "sampler": "ddim", "init_image": "cat.png",
        "mask_image": "cat.png", "precision": "half", "compat": "compvis", "weights": "on",
    }  # fmt: skip
    begun = {"mask_image": {"init_image": str(picture)}, "compat": {"sampler": "DDIM"}}.get(name, {})
    spelling = heading.replace("_", " -").upper()
    other = "Note" if name == "prompt" else "prompt"
    content = f"{spelling},{other}\n{cells.get(name, '64' if name in ('width', 'height') else '1')},x\n"
    assert read(content, **begun)[0].tags == ({"Note": "x"} if name == "prompt" else {})


@pytest.mark.parametrize(
    ("heading", "cell", "name", "value"),
    [
        ("CFG scale", " 7.5 ", "scale", 7.5),
        ("ddim-steps", "30", "steps", 30),
        ("seed", "42.0", "seed", 42),
        ("n_iter", "4", "num_images", 4),
        ("uc", "blur", "negative_prompt", "blur"),
        ("scheduler", "K_Euler_A", "sampler", "Euler a"),
        ("ckpt", "owner/name", "model", "owner/name"),
        ("size", "512 × 768", "height", 768),
        ("W", "640", "width", 640),
        ("steps", " ", "steps", 25),
    ],
)
def test_a_cell_overrides_its_parameter(read: Read, heading: str, cell: str, name: str, value: object) -> None:
    (row,) = read(f"prompt,{heading}\ncat,{cell}\n")
    assert getattr(row.parameters, name) == value


def test_an_empty_cell_means_the_default(read: Read) -> None:
    first, second = read("prompt,steps,width\ncat,,\ndog,30,128\n", steps="10", width=64, height=64)
    assert (first.parameters.steps, first.parameters.width) == (10, 64)
    assert (second.parameters.steps, second.parameters.width, second.parameters.height) == (30, 128, 64)


def test_without_a_size_the_checkpoint_decides(read: Read) -> None:
    (row,) = read("prompt,model\ncat,owner/unknown\n")
    assert (row.parameters.width, row.parameters.height) == (512, 512)


def test_unknown_columns_are_tags_in_their_own_spelling(read: Read) -> None:
    first, second = read("prompt, My Tag ,filename\ncat,a b,x.png\ndog,,\n")
    assert (first.tags, second.tags) == ({"My Tag": "a b", "filename": "x.png"}, {})


def test_a_tag_that_is_nearly_a_parameter_is_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,stpes,type,Prompt ID\na cat,30,x,1\na dog,40,x,2\n")
    file = PromptFile(tmp_path / "a.csv", defaults=JOB)
    file.check()
    (problem,) = file.warnings.problems
    assert str(problem).endswith("a.csv:2: stpes: is no parameter and kept as a tag; write steps if that is meant")


def test_a_row_like_the_one_before_is_what_it_is_alone(read: Read, picture: Path) -> None:
    plain = ["", "", "", "", "", ""]
    others = [("30", 0), ("7", 1), ("Euler a", 2), ("64x128", 3), ("-", 4), ("on", 5), (picture.name, 6)]
    rows = [["a", *plain, ""], ["b", *plain, ""]]
    for cell, place in others:
        row = [*plain, ""]
        row[place] = cell
        rows += [["c", *row], ["d", *row], ["e", *plain, ""]]
    header = "prompt,steps,seed,sampler,size,negative,weights,init_image\n"
    together = read(header + "".join(",".join(row) + "\n" for row in rows))
    alone = [read(header + ",".join(row) + "\n")[0] for row in rows]
    assert [row.parameters for row in together] == [row.parameters for row in alone]


def test_a_wrong_row_is_found_among_like_ones(tmp_path: Path) -> None:
    path = tmp_path / "cats.csv"
    path.write_text("prompt,width,seed\n" + "cat,,\n" * 3 + f"cat,,{2**63}\n" + "cat,,\n" + "cat,65,\n" * 2)
    with pytest.raises(InvalidPromptFile) as refused:
        PromptFile(path, defaults=JOB).check()
    assert [problem.line for problem in refused.value.problems] == [5, 7, 8]


def test_an_init_image_is_looked_for_beside_the_prompt_file(read: Read, picture: Path) -> None:
    (row,) = read("prompt,init_img,mask\ncat, cat.png,./cat.png\n")
    assert row.parameters.init_image == row.parameters.mask_image == str(picture.resolve())


def test_a_quote_that_is_no_quoting_stays_in_the_prompt(read: Read) -> None:
    (row,) = read('prompt\tseed\n"Stop" on a sign\t1\n', "a.tsv")
    assert row.parameters.prompt == '"Stop" on a sign'


def test_a_prompt_file_knows_its_name_hash_and_number_of_jobs(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,n\ncat,3\ndog,\n")
    file = PromptFile(path, defaults=JOB)
    assert (file.name, file.sha256) == ("a.csv", hashlib.sha256(path.read_bytes()).hexdigest())
    assert (file.check(), file.check(), len(list(file.rows()))) == (4, 4, 2)


def test_standard_input_can_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Prompts;seed\ncat;1\ndog;2\n")))
    file = PromptFile("-", defaults=JOB)
    assert (file.name, file.check(), prompts(list(file.rows()))) == ("stdin", 2, ["cat", "dog"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_can_be_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("a cat\na dog\n",))
    writer.start()
    file = PromptFile(path, defaults=JOB)
    writer.join()
    assert (file.check(), prompts(list(file.rows()))) == (2, ["a cat", "a dog"])


@pytest.mark.skipif(not PARTI.exists(), reason="PartiPrompts is not here")
def test_parti_prompts_are_1632_rows_with_their_tags() -> None:
    file = PromptFile(PARTI, defaults=JOB)
    assert file.check() == 1632
    rows = list(file.rows())
    assert {heading for row in rows for heading in row.tags} == {"Category", "Challenge", "Note"}
    with PARTI.open(encoding="utf-8") as lines:
        assert [line.split("\t")[0] for line in lines][1:] == prompts(rows)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write("prompt,seed,Note\n")
        file.writelines(f"a red circle number {number},{number},{number % 7}\n" for number in range(30_000))
    tracemalloc.start()
    try:
        assert PromptFile(path, defaults=JOB).check() == 30_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def written(rows: Sequence[Sequence[str]], delimiter: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([("prompt", *NOTES), *rows])
        yield from PromptFile(path, defaults=JOB).rows()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
PROMPT = TEXT.filter(str.strip)


@settings(deadline=None, max_examples=200)
@given(rows=st.lists(st.tuples(PROMPT, TEXT, TEXT), min_size=1, max_size=5), delimiter=st.sampled_from(",\t;|"))
def test_what_a_csv_writer_writes_is_read_back(rows: list[tuple[str, str, str]], delimiter: str) -> None:
    found = [(row.parameters.prompt, *(row.tags.get(note, "") for note in NOTES)) for row in written(rows, delimiter)]
    assert found == [(prompt, *(cell if cell.strip() else "" for cell in cells)) for prompt, *cells in rows]
