from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.infotext import NEGATIVE, parse_infotext
from worker.infotext import write_infotext

JOB: dict[str, Any] = {
    "prompt": "a red circle",
    "negative_prompt": "",
    "model": "/models/v1-5.safetensors",
    "sampler": "DPM++ 2M Karras",
    "steps": 25,
    "scale": 7.5,
    "width": 512,
    "height": 768,
    "seed": 42,
    "checkpoint_hash": "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
}


def test_infotext_reads_as_a1111_writes_it() -> None:
    text = write_infotext({**JOB, "negative_prompt": "blurry"})
    assert text.rpartition(", Version: ")[0] == (
        "a red circle\nNegative prompt: blurry\n"
        "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 512x768, "
        "Model hash: 6ce0161689, Model: v1-5, RNG: CPU"
    )


def test_what_does_not_apply_is_left_out() -> None:
    found = parse_infotext(write_infotext({**JOB, "sampler": "Euler a", "strength": 0.75, "eta": 0.0}))
    assert not {"Schedule type", "Denoising strength", "Eta"} & found.keys()
    assert found["Negative prompt"] == ""


def test_an_init_image_and_eta_are_told() -> None:
    found = parse_infotext(write_infotext({**JOB, "init_image": "a.png", "strength": 0.6, "eta": 0.5}))
    assert (found["Denoising strength"], found["Eta"]) == ("0.6", "0.5")


def test_a_mask_is_told_by_its_hard_edge() -> None:
    found = parse_infotext(write_infotext({**JOB, "init_image": "a.png", "mask_image": "b.png", "strength": 1.0}))
    assert (found["Denoising strength"], found["Mask blur"]) == ("1", "0")


@pytest.mark.parametrize("model", ["owner/a, b: c", 'the "best"', "line\nbreak", "plain"])
def test_any_model_name_survives(model: str) -> None:
    assert parse_infotext(write_infotext({**JOB, "model": model}))["Model"] == model.rpartition("/")[2]


def test_text_without_parameters_is_all_prompt() -> None:
    assert parse_infotext("one\nSteps: 3, Seed: 4") == {"Prompt": "one\nSteps: 3, Seed: 4", "Negative prompt": ""}


def test_the_joined_sampler_of_old_files_is_read() -> None:
    found = parse_infotext("x\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 512x512")
    assert (found["Sampler"], found["Size-1"], found["Size-2"]) == ("DPM++ 2M Karras", "512", "512")


def is_plain(prompt: str) -> bool:
    """Whether the format can hold it: it strips every line, and a line of its own starts the negative."""
    lines = prompt.split("\n")
    return all(line == line.strip() and not line.startswith(NEGATIVE) for line in lines) and prompt == prompt.strip()


PROMPTS = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from(["a", ", ", ": ", "\n", '"', "\\", "Steps: 3"])).map("".join)
).filter(is_plain)


@given(PROMPTS, PROMPTS, st.integers(0, 2**63 - 1), st.floats(0, 100).map(lambda scale: round(scale, 4)))
def test_prompts_and_parameters_survive(prompt: str, negative: str, seed: int, scale: float) -> None:
    found = parse_infotext(
        write_infotext({**JOB, "prompt": prompt, "negative_prompt": negative, "seed": seed, "scale": scale})
    )
    assert (found["Prompt"], found["Negative prompt"]) == (prompt, negative)
    assert (int(found["Seed"]), float(found["CFG scale"])) == (seed, scale)
