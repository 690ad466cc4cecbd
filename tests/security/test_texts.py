"""Texts of strangers: stored and given to programs exactly, shown to people without power over the terminal."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from configs.plain_text import plain

Call = Callable[..., Result]
ROOT = Path(__file__).parents[2]
TEXTS = {
    "escape": "a cat \x1b[2J\x1b]0;owned\x07\x1b[31m",
    "c1": "a cat \x9b31m \x9d0;owned\x9c",
    "carriage return": "a cat\rovertyped",
    "lines": "a cat\nFake: line\r\nmore",
    "backspace and delete": "a dog\b\b\bcat\x7f",
    "right to left": "قطة على \u202ecod\u202c a cat \u2066x\u2069",
    "emoji": "a 👩‍👩‍👧‍👦 on a 🏳️‍🌈",
    "separators": "a\u2028b\u2029c\u0085d",
    "rich markup": "[red]a cat[/red] [link=file:///etc/passwd]x[/link] [/]",
    "formats": "{} {0.__class__} %s %n ${HOME} $(id) `id` {{7*7}} \\x41",
    "sql": "'; DROP TABLE job; -- \" OR 1=1 %_",
    "html": "<script>alert(1)</script>&amp;",
    "formula": '=HYPERLINK("http://x";"y")',
    "looks like a path": "../../../../etc/passwd",
    "longest": "x" * 8000,
    "tags": "\U000e0041\U000e0042 hidden",
    "noncharacters": "\uffff\ufffe \ufdd0",
}
DANGEROUS = {
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029",
} - {"\n"}


@pytest.fixture
def submitted(promptmill: Call) -> Call:
    """A job for each of the texts, with it as prompt, negative prompt and tag; and the command to look at them."""
    rows = [{"prompt": text, "negative_prompt": text, "note": text, "[b]{} \x1b[1m": "odd"} for text in TEXTS.values()]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    result = promptmill("submit", "a.jsonl", "--name", "cats \x1b[2J\u202e{}%s[red]")
    assert (result.exit_code, DANGEROUS & set(result.output)) == (0, set())
    return promptmill


def test_texts_are_stored_and_given_to_programs_exactly(submitted: Call) -> None:
    lines = submitted("history", "--json").stdout.rstrip("\n").split("\n")
    for line, text in zip(lines, reversed(TEXTS.values()), strict=True):
        found = json.loads(line)
        assert [found["prompt"], found["negative_prompt"], found["tags"]["note"]] == [text] * 3
    rows = csv.DictReader(io.StringIO(submitted("history", "--csv").stdout_bytes.decode(), newline=""))
    assert [row["prompt"] for row in rows] == list(reversed(TEXTS.values()))


@pytest.mark.parametrize(
    "words", ["history", "history --json", "show 1", "show 7", "status", "status 1", "fsck", "cancel"]
)
def test_no_text_rules_the_terminal(submitted: Call, words: str) -> None:
    assert DANGEROUS & set(submitted(*words.split()).output) == set()


def test_a_text_is_shown_as_it_is_but_for_that(submitted: Call) -> None:
    listed = submitted("history").stdout
    assert [name for name, text in TEXTS.items() if plain(text) not in listed] == []


@pytest.mark.parametrize("name", ["sql", "formats", "html", "rich markup", "emoji"])
def test_words_are_looked_for_as_they_are(submitted: Call, name: str) -> None:
    phrase = '"{}"'.format(TEXTS[name].replace("\\", "\\\\").replace('"', '\\"'))
    assert json.loads(submitted("history", "--json", "--", phrase).stdout)["prompt"] == TEXTS[name]
    assert submitted("history", "--json", "--", phrase, "elsewhere").stdout == ""


@pytest.mark.usefixtures("submitted")
def test_a_terminal_itself_gets_nothing_dangerous() -> None:
    """CSV is exact for programs; on a terminal it is not."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "producer", "history", "--csv"]
    with subprocess.Popen(argv, stdout=theirs, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        os.close(theirs)
        shown = _read_all(ours).decode().replace("\r\n", "\n")
    assert (process.returncode, DANGEROUS & set(shown)) == (0, set())


def _read_all(descriptor: int) -> bytes:
    found = b""
    try:
        while block := os.read(descriptor, 65536):
            found += block
    except OSError:  # the other end is closed
        pass
    os.close(descriptor)
    return found


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1"])
def test_a_safe_export_holds_no_formula(promptmill: Call, cell: str) -> None:
    Path("a.jsonl").write_text(json.dumps({"prompt": cell, "negative_prompt": "a, b"}), encoding="utf-8")
    promptmill("submit", "a.jsonl")
    exact, safe = (
        next(csv.DictReader(io.StringIO(promptmill("history", *words).stdout_bytes.decode(), newline="")))
        for words in (["--csv"], ["--csv", "--safe"])
    )
    assert (exact["prompt"], safe["prompt"], safe["negative_prompt"]) == (cell, f"'{cell}", "a, b")
    assert {**exact, "prompt": ""} == {**safe, "prompt": ""}


def test_safe_is_a_word_about_csv(promptmill: Call) -> None:
    assert promptmill("history", "--safe").exit_code == 2


@pytest.mark.parametrize("prompt", ["x" * 8001, "x" * 100_000, "a\0b", "\ud800"])
def test_what_no_database_takes_is_refused(promptmill: Call, prompt: str) -> None:
    Path("a.jsonl").write_text(json.dumps({"prompt": prompt}), encoding="utf-8")
    result = promptmill("submit", "a.jsonl")
    assert (result.exit_code, len(result.output) < 500) == (2, True)
    assert promptmill("history", "--json").stdout == ""


@pytest.mark.parametrize(
    "content",
    ["prompt,seed\ncat,\x1b[31mred\n", "prompt,\x1b[31m,\x1b[31m\ncat,1,2\n", "x\x1b[2J,y\u202e\ncat,1\n",
     'prompt,sampler\ncat,"\x1b]0;x\x07 [red]{}%s"\n', "prompt,init_image\ncat,\x1b[31m.png\n",
     "prompt,model\ncat,\x9b31m\n"],
)  # fmt: skip
def test_what_is_said_of_a_bad_row_is_inert(promptmill: Call, content: str) -> None:
    Path("a\x1b[31m.csv").write_text(content, encoding="utf-8")
    result = promptmill("submit", "a\x1b[31m.csv")
    assert (result.exit_code, DANGEROUS & set(result.output)) == (2, set())
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize("name", [b"\xff\xfe.csv", "a\u202e.csv".encode(), b"[red]{}%s;'.csv", b"a\n.csv"])
def test_a_file_may_have_any_name(promptmill: Call, name: bytes) -> None:
    Path(os.fsdecode(name)).write_text("prompt\na cat\n")
    assert promptmill("submit", os.fsdecode(name)).exit_code == 0
    assert json.loads(promptmill("history", "--json").stdout)["batch"] == name.decode(errors="replace").replace(
        "\ufffd", "?"
    )
    shown = promptmill("status").output + promptmill("status", os.fsdecode(name)).output
    assert DANGEROUS & set(shown) == set()


ARGUMENTS = [
    ["history", "--seed", str(2**70)], ["history", "--steps", str(-(2**70))], ["history", "--before", str(2**64)],
    ["history", "--tag", 'a"b\'.$[0]=c'], ["history", "--tag", "=x"], ["history", "--batch", "\udcff"],
    ["history", "\udcff\0"], ["history", "--scale", "nan"], ["history", "--limit", str(2**70)], ["show", str(2**70)],
    ["show", "9" * 5000], ["status", str(2**70)], ["show", "²"], ["status", "²"], ["status", "\0"], ["show", "\0.png"],
    ["show", "x" * 5000], ["submit", "x" * 5000], ["submit", "-", "--name", "\udcff\0"],
    ["fsck", "²"], ["history", "--sampler", "\x1b[31m{}"], ["submit", "-", "--preset", "../../x"],
]  # fmt: skip


def test_no_argument_gives_a_traceback(promptmill: Call) -> None:
    promptmill("submit", "-", text="a cat\n")
    for words in ARGUMENTS:
        result = promptmill(*words, text="a dog\n")
        assert result.exit_code in {0, 1, 2}, words
        assert result.exception is None or isinstance(result.exception, SystemExit), words
        assert DANGEROUS & set(result.output) == set(), words
