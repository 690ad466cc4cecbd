"""Prompt files as nobody should write them: tables, plain text and JSON lines, with every part of them gone wrong."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from producer.columns import NAMES

CORPUS = {
    path.name: path.read_bytes() for path in sorted((Path(__file__).parent / "corpus" / "prompt_files").iterdir())
}
SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt", ".jsonl", ".ndjson", ".json", "", ".xlsx", ".csv.gz")
#: What a parameter takes, and what nearly is that.
GOOD = {
    "prompt": ["a cat", "cat:2 dog:-1", "a dog, in oil"],
    "negative_prompt": ["", "blurry"],
    "model": ["demo", "owner/name"],
    "sampler": ["Euler a", "DDIM", "k_euler", ""],
    "steps": ["20", "1", "50.0"],
    "scale": ["7.5", "0", "1e1"],
    "width": ["512", "64"],
    "height": ["512", "64"],
    "size": ["512x768", "64 x 64"],
    "seed": ["", "1", "9223372036854775807"],
    "num_images": ["1", "2", "3"],
    "strength": ["0.5", "1"],
    "eta": ["0", "1.0"],
    "weights": ["true", "false"],
    "precision": ["auto", "fp32"],
    "compat": ["", "compvis"],
    "category": ["Animals", "=1+1", ""],
}
ODD = [
    "",
    " ",
    "\0",
    "\x1b[2J",
    '"',
    '""',
    "'",
    ",",
    ";",
    "\t",
    "|",
    "\r",
    "\n",
    "\ufeff",
    "\u202e",
    "\U0001f986",
    "{",
    "{}",
    "%s",
    "\\",
]
VALUES = [
    "0",
    "-1",
    "1e5",
    "1e999",
    "nan",
    "inf",
    "\u0663",
    "\u00b2",
    "1_000",
    "0x10",
    "42.0",
    "0x0",
    "plms",
    "Own",
    "/",
    "..",
    "~",
    "~nobody",
    "file:///x",
    "/dev/null",
    "optimized",
]
#: How often a character is repeated: as many as a number, a prompt and a cell of a table may have, and more.
LENGTHS = [30, 5000, 8000, 8001, 140_000]
#: Most are right, so that what comes after is reached too.
ENCODINGS = ["utf-8"] * 30 + ["utf-16-le", "utf-16-be", "utf-32-le", "latin-1", "cp1252", "utf-7", "shift_jis"]
MARKS = [b""] * 30 + [codecs.BOM_UTF8] * 5 + [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE]
ENDS = ["\n"] * 6 + ["\r\n"] * 3 + ["\r", "\n\n", "\u2028", "\x0b", "\x1e"]

odd = st.sampled_from(ODD)
long = st.tuples(st.sampled_from("9xy"), st.sampled_from(LENGTHS)).map(lambda found: found[0] * found[1])
bad = st.one_of(st.sampled_from(VALUES), long, odd, st.text(max_size=30), st.lists(odd, max_size=5).map("".join))
ends = st.sampled_from(ENDS)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | bad
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(bad, inner, max_size=3), max_leaves=5
)
headings = st.lists(st.sampled_from(sorted(GOOD)[:-1]), unique=True, max_size=5).map(
    lambda names: [*{"prompt": 0, **dict.fromkeys(names)}]
)


def seldom(draw: st.DrawFn, times: int = 12) -> bool:
    """Once in so many times."""
    return draw(st.integers(1, times)) == times


def cell(draw: st.DrawFn, heading: str) -> str:
    return draw(bad) if seldom(draw) else draw(st.sampled_from(GOOD.get(heading, ["x"])))


def header(draw: st.DrawFn) -> list[str]:
    """Names of columns, or what somebody takes for some."""
    names = draw(headings)
    return [*names, draw(bad | st.sampled_from(sorted(NAMES)))] if seldom(draw, 4) else names


@st.composite
def tables(draw: st.DrawFn) -> str:
    """A header and rows, quoted as it comes."""
    delimiter, end, names = draw(st.sampled_from(",,,\t;|")), draw(ends), header(draw)
    rows = [[cell(draw, name) for name in names][: draw(_cut)] for _ in range(draw(st.integers(0, 5)))]
    return end.join(delimiter.join(draw(quotings)(text) for text in row) for row in (names, *rows)) + draw(ends)


#: Where a row ends.
_cut = st.sampled_from([None] * 40 + [0, 1, -1])
quotings = st.sampled_from(
    [lambda text: text if not set(text) & set(',;|\t"\r\n') else '"' + text.replace('"', '""') + '"'] * 40
    + [str, lambda text: f'"{text}"', lambda text: f'"{text}', lambda text: f'{text}"', lambda text: f'"{text}" x']
)


@st.composite
def json_lines(draw: st.DrawFn) -> str:
    """Objects a line, and what only looks like them."""
    return "".join(draw(_line()) + draw(ends) for _ in range(draw(st.integers(0, 5))))


@st.composite
def _line(draw: st.DrawFn) -> str:
    members: dict[str, Any] = {name: draw(values) if seldom(draw) else cell(draw, name) for name in header(draw)}
    text = json.dumps(members, ensure_ascii=draw(st.booleans()))
    return draw(st.sampled_from(FORMS))(text)


#: What is made of an object's JSON.
FORMS: list[Callable[[str], str]] = [
    *[str] * 40,
    lambda text: text[:-1],
    lambda text: text * 2,
    lambda text: f"[{text}]",
    lambda text: f'{text[:-1]}, "note": {"[" * 10_000}',
    lambda text: '{"a":' * 10_000 + text,
    lambda _: "null",
    lambda _: "{}",
]

texts = st.lists(bad | st.sampled_from(GOOD["prompt"]), max_size=8).map("\n".join) | st.text(max_size=200)


@st.composite
def encoded(draw: st.DrawFn, text: str) -> bytes:
    """The text in some encoding, with or without a mark of it, and not always the right one."""
    encoding, mark = draw(st.sampled_from(ENCODINGS)), draw(st.sampled_from(MARKS))
    return mark + text.encode(encoding, "ignore" if encoding in {"shift_jis", "utf-7"} else "replace")


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with some of them cut out, doubled or replaced."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2, 3]))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 20)))
        content = content[:start] + draw(st.binary(max_size=8)) + content[start if draw(st.booleans()) else stop :]
    return content


contents = st.one_of(
    tables().flatmap(encoded).flatmap(mutated),
    json_lines().flatmap(encoded).flatmap(mutated),
    texts.flatmap(encoded).flatmap(mutated),
    st.sampled_from(sorted(CORPUS)).map(CORPUS.__getitem__).flatmap(mutated),
    st.binary(max_size=300),
)
