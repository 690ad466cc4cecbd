"""Whatever an infotext holds: it is read without an error, in time, and what we write is read as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from configs.infotext import parse_infotext
from worker.infotext import write_infotext

Call = Callable[..., Result]
CORPUS = {
    path.name: path.read_bytes().decode("utf-8", "surrogateescape")
    for path in sorted((Path(__file__).parent / "corpus" / "infotexts").iterdir())
}
FUZZ = settings(settings.get_profile("fuzz"))

odd = st.sampled_from(
    [
        '"',
        '\\"',
        "\\",
        ", ",
        ": ",
        "\n",
        "Negative prompt: ",
        "Steps: 20",
        "Size: 512x512",
        "a",
        " ",
        "\0",
        "\r",
        "\x85",
    ]
)
long = st.sampled_from(["x", "a: ", '"', 'k:"\\"', "\n"]).map(lambda part: part * 3000)
parts = odd | st.text(max_size=20) | long
pairs = st.tuples(st.text(min_size=1, max_size=10) | st.sampled_from(["Steps", "Seed", "Size", "TI hashes"]), parts)
params = st.lists(pairs, max_size=8).map(lambda found: ", ".join(f"{key}: {value}" for key, value in found))
infotexts = st.one_of(
    st.lists(parts, max_size=10).map("".join),
    st.tuples(parts, parts, params).map(lambda found: f"{found[0]}\nNegative prompt: {found[1]}\n{found[2]}"),
    st.sampled_from(sorted(CORPUS))
    .map(CORPUS.__getitem__)
    .flatmap(lambda text: st.lists(parts, max_size=2).map(lambda odd: text.join(["", *odd]))),
)
words = st.text(max_size=50) | st.lists(odd, max_size=6).map("".join)
jobs = st.fixed_dictionaries(
    {
        "prompt": words.filter(lambda text: text.strip()),
        "negative_prompt": words,
        "model": words.filter(lambda text: text.strip()),
        "sampler": st.sampled_from(["DDIM", "DPM++ 2M Karras", "Euler a", "PLMS"]),
        "steps": st.integers(1, 1000),
        "scale": st.floats(0, 100),
        "seed": st.integers(0, 2**63 - 1),
        "width": st.integers(8, 512).map(lambda side: side * 8),
        "height": st.integers(8, 512).map(lambda side: side * 8),
        "checkpoint_hash": st.just("0123456789abcdef"),
    }
)


def read(text: str) -> None:
    found = parse_infotext(text)
    assert {"Prompt", "Negative prompt"} <= found.keys()
    assert all(isinstance(value, str) for pair in found.items() for value in pair)


@given(text=infotexts)
@FUZZ
def test_any_text_is_read(text: str) -> None:
    read(text)


@pytest.mark.parametrize("name", CORPUS)
def test_what_once_went_wrong_is_read_again(name: str) -> None:
    read(CORPUS[name])


@given(job=jobs)
@FUZZ
def test_what_we_write_is_read_as_it_was(job: dict[str, Any]) -> None:
    found = parse_infotext(write_infotext(job))
    assert (found["Steps"], found["Seed"]) == (str(job["steps"]), str(job["seed"]))
    assert (found["Size-1"], found["Size-2"]) == (str(job["width"]), str(job["height"]))
    assert float(found["CFG scale"]) == pytest.approx(job["scale"])
    assert found["Model hash"] == "0123456789"


@given(infotext=infotexts, record=infotexts | st.recursive(st.text() | st.floats(), st.lists).map(json.dumps))
@FUZZ
def test_any_text_in_a_picture_is_shown(promptmill: Call, infotext: str, record: str) -> None:
    chunks = PngImagePlugin.PngInfo()
    for name, text in (("parameters", infotext), ("promptmill", record)):
        chunks.add_itxt(name, text.encode(errors="replace").decode())
    Image.new("RGB", (1, 1)).save("x.png", pnginfo=chunks)
    result = promptmill("show", "x.png")
    assert (result.exit_code, result.exception) == (0, None)
    assert not set(result.output) & set(map(chr, [*range(10), *range(11, 32), *range(127, 160)]))


@pytest.mark.parametrize(
    "long", ["a" * 200_000, "a b" * 100_000, "a: " * 100_000, 'k: "' * 50_000, '"\\' * 100_000, "a:b," * 50_000]
)
def test_a_long_text_takes_no_longer_than_its_length(long: str) -> None:
    """Within the time limit of every test, where time by the square would take hours."""
    read(long)
    read(f"a cat\n{long}")
