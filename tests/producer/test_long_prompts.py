"""What is said of prompts that the text encoder does not read to their end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from configs.checkpoints import SHIPPED
from configs.clip import load_tokenizer
from configs.parameters import Parameters
from producer.long_prompts import excess, losses

LONG = "very " * 70 + "large red  Astronaut, riding a White horse"
LOST = "a White horse"
"""What is lost where 75 tokens are read."""


@pytest.fixture
def make() -> Callable[..., Parameters]:
    """A row's parameters; any can be set."""

    def make(**fields: Any) -> Parameters:
        defaults = {"prompt": "cat", "model": "owner/name", "sampler": "DDIM", "steps": 1, "scale": 1.0, "eta": 0.0}
        return Parameters(**{**defaults, "width": 64, "height": 64, "strength": 0.75, **fields})

    return make


def test_the_lost_words_are_named_as_they_are_written() -> None:
    assert excess(LONG, "owner/name") == LOST
    assert excess("very " * 75, "owner/name") == excess("x" * 75, "owner/name") == ""


@given(st.text(min_size=20, max_size=60).map(lambda text: text * 5))
def test_word_by_word_the_same_is_lost(text: str) -> None:
    places = load_tokenizer().encode(text).offsets
    assert excess(text, "owner/name") == (text[places[75][0] :].strip() if len(places) > 75 else "")


def test_letters_of_other_languages_take_more_tokens() -> None:
    assert excess("\u0915\u0941\u0924\u094d\u0924\u093e " * 20, "owner/name")
    assert not excess("ein Küken", "owner/name")


def test_a_folder_is_asked_with_its_own_tokenizer() -> None:
    red = "a red circle on a blue background "
    assert excess(red * 10, "owner/name") == ""
    assert excess(red * 10, "demo") == excess(red * 10, str(SHIPPED / "demo"))
    assert excess("zq " * 100, "demo")


def test_prompt_and_negative_prompt_are_both_told(make: Callable[..., Parameters]) -> None:
    told = dict(losses(make(prompt=LONG, negative_prompt=f"{LONG} x")))
    assert told["prompt"] == f"is longer than the 77 tokens that the checkpoint reads; this is cut off: {LOST}"
    assert told["negative_prompt"].endswith(f"{LOST} x")
    assert list(losses(make())) == []


def test_sub_prompts_are_as_long_as_prompts_each(make: Callable[..., Parameters]) -> None:
    text = " ".join(f"{'very ' * 40}cat:0.5" for _ in range(3))
    assert not list(losses(make(prompt=text, weights=True)))
    assert list(losses(make(prompt=text)))


def test_another_kind_of_text_encoder_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert excess(LONG, str(tmp_path)) == ""


def test_a_warning_is_no_error_and_names_row_and_words(promptmill: Callable[..., Result]) -> None:
    Path("a.csv").write_text(f'prompt,model\ncat,owner/name\n"{LONG}",owner/name\n')
    result = promptmill("submit", "a.csv")
    cut = "prompt: is longer than the 77 tokens that the checkpoint reads; this is cut off: a White horse"
    assert (result.exit_code, result.output.split("\n")[0]) == (0, f"Warning: a.csv:3: {cut}")


def test_of_many_warnings_the_first_are_shown_and_all_counted(promptmill: Callable[..., Result]) -> None:
    Path("a.txt").write_text(f"{LONG}\n" * 50)
    result = promptmill("submit", "a.txt", "--model", "owner/name")
    assert result.output.count("is cut off") == 20
    assert "Warning: 30 more of the same kind" in result.output


@pytest.mark.slow
def test_a_hundred_thousand_rows_stay_fast(make: Callable[..., Parameters]) -> None:
    words = "a photograph of an astronaut riding a horse, highly detailed, sharp focus, trending, by somebody"
    rows = [make(prompt=f"{words[n % 60 :]} {words} {n}") for n in range(100_000)]
    started = time.perf_counter()
    assert not [loss for row in rows for loss in losses(row)]
    assert time.perf_counter() - started < 10
