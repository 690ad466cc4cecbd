"""Compatibility modes in numbers: step grids, noise of runs, and what is refused."""

from typing import Any

import pytest

from configs.compat import Course, Draw, Noise, describe_noise, grid, has_grid, images, refusals, steps_taken

ROW: dict[str, Any] = {
    "compat": "compvis", "sampler": "DDIM", "steps": 50, "seed": 42, "scale": 7.5, "eta": 0.0, "width": 512,
    "height": 512, "init_image": None, "strength": 0.75,
}  # fmt: skip
CRASHED = {3, 9, 27, 36, 37, *range(101, 112), *range(251, 334), *range(501, 1001)}
"""As seen in CompVis."""


def course(sampler: str, **fields: Any) -> Course:
    return Course(**{"mode": "compvis", "sampler": sampler, "steps": 50, "seed": 42, "n_samples": 3, **fields})


def test_step_counts_without_a_grid_are_those_that_crashed() -> None:
    assert {steps for steps in range(1, 1001) if not has_grid(steps)} == CRASHED


def test_steps_are_kept_where_they_divide_a_thousand_and_a_few_times_more() -> None:
    kept = [steps for steps in range(1, 501) if has_grid(steps) and len(grid(steps)) == steps]
    assert kept == [1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500]


@pytest.mark.parametrize(
    ("steps", "taken"),
    [(15, 16), (30, 31), (60, 63), (70, 72), (75, 77), (80, 84), (128, 143), (150, 167), (334, 500)],
)
def test_compvis_takes_other_steps_than_it_is_asked_for(steps: int, taken: int) -> None:
    assert steps_taken("compvis", "DDIM", steps) == steps_taken("compvis", "PLMS", steps) == taken
    assert steps_taken("compvis", "DPM++ 2M", steps) == steps_taken(None, "DDIM", steps) == steps


@pytest.mark.parametrize(
    ("steps", "strength", "taken"), [(50, 0.75, 37), (100, 0.29, 28), (50, 0.58, 28), (50, 1.0, 50), (30, 1.0, 30)]
)
def test_an_init_image_takes_steps_cut_off(steps: int, strength: float, taken: int) -> None:
    assert steps_taken("compvis", "DDIM", steps, strength) == steps_taken(None, "DDIM", steps, strength) == taken


@pytest.mark.parametrize(("steps", "highest"), [(50, 981), (20, 951), (30, 991), (1, 1)])
def test_a_grid_ends_where_compvis_began(steps: int, highest: int) -> None:
    assert grid(steps)[-1] == highest


@pytest.mark.parametrize(
    ("sampler", "fields", "draw"),
    [
        ("DDIM", {}, 51),
        ("PLMS", {}, 52),
        ("DPM++ 2M", {}, 1),
        ("DDIM", {"steps": 30}, 32),
        ("DDIM", {"eta": 1.0}, 51),
        ("DDIM", {"strength": 0.75}, 38),
        ("DDIM", {"fixed_code": True}, 0),
    ],
)
def test_a_second_iteration_begins_with_the_draw_it_had(sampler: str, fields: dict[str, Any], draw: int) -> None:
    made = list(images(course(sampler, n_iter=2, **fields), ["abc"]))
    assert [image.noise.start.draw for image in made] == [0, 0, 0, draw, draw, draw]
    assert [image.noise.start.row for image in made] == [0, 1, 2, 0, 1, 2]
    assert {image.seed for image in made} == {42}


@pytest.mark.parametrize(("fixed_code", "draws"), [(False, [1, 52, 103]), (True, [1, 51, 101])])
def test_noise_of_steps_follows_that_of_the_start(fixed_code: bool, draws: list[int]) -> None:
    made = images(course("DDIM", n_iter=3, n_samples=1, eta=0.5, fixed_code=fixed_code), ["a"])
    assert [image.noise.steps.draw for image in made if image.noise.steps] == draws


def test_a_short_chunk_draws_as_many_rows_as_any_other() -> None:
    made = list(images(course("DDIM", n_iter=2), ["abc", "d"]))
    assert "".join(image.prompt for image in made) == "abcdabcd"
    assert [image.noise.start.draw for image in made] == [0, 0, 0, 51, 102, 102, 102, 153]
    assert {image.noise.start.rows for image in made} == {3}


def test_the_fork_counts_seeds_through_chunks_and_iterations() -> None:
    made = list(images(course("Euler", mode="optimized", n_iter=2), ["aaa", "bbb"]))
    assert [image.seed for image in made] == list(range(42, 54))
    assert {(image.noise.start.draw, image.noise.start.rows, image.noise.steps) for image in made} == {(0, 1, None)}


def test_the_forks_ancestral_noise_is_its_batchs() -> None:
    made = list(images(course("Euler a", mode="optimized", n_iter=2), ["aaa"]))
    assert made[4].noise.start == Draw(seed=46, draw=0, rows=1, row=0)
    assert made[4].noise.steps == Draw(seed=47, draw=1, rows=3, row=1)


def test_a_record_of_noise_is_plain_and_short() -> None:
    noise = Noise(source="compvis", start=Draw(seed=42, draw=51, rows=3, row=1))
    assert noise.record() == {"source": "compvis", "start": {"seed": 42, "draw": 51, "rows": 3, "row": 1}}
    assert describe_noise(noise.record()) == "compvis, draw 51 of seed 42, row 1 of 3"
    assert describe_noise(None) == "cpu, from the seed alone"


@pytest.mark.parametrize(
    ("changes", "parameter", "words"),
    [
        ({"steps": 27}, "steps", "take 26 or 28"),
        ({"steps": 300, "sampler": "PLMS"}, "steps", "take 250 or 334"),
        ({"steps": 1000}, "steps", "take 500"),
        ({"steps": 3, "compat": "optimized", "sampler": "Euler a"}, "steps", "take 2 or 4"),
        ({"steps": 1, "sampler": "DPM++ 2M"}, "steps", "2 steps or more"),
        ({"width": 72}, "width", "multiple of 64, such as 64 or 128"),
        ({"height": 500}, "height", "multiple of 64, such as 448 or 512"),
        ({"width": 500, "init_image": "x.png"}, "width", "multiple of 32"),
        ({"width": 480, "init_image": "x.png", "compat": "optimized"}, "width", "multiple of 64"),
        ({"sampler": "PLMS", "eta": 0.5}, "eta", "is not 0"),
        ({"sampler": "PLMS", "init_image": "x.png"}, "sampler", "is not DDIM, which img2img has"),
        ({"sampler": "Euler a"}, "sampler", "is not DDIM, PLMS or DPM++ 2M"),
        ({"sampler": "DPM++ 2M", "compat": "optimized"}, "sampler", "is not DDIM, PLMS, Heun"),
        ({"seed": 2**32}, "seed", "0 to 4294967295"),
        ({"scale": 0.5}, "scale", "1 or more"),
    ],
)
def test_what_the_originals_could_not_do_is_refused(changes: dict[str, Any], parameter: str, words: str) -> None:
    found = dict(refusals({**ROW, **changes}))
    assert list(found) == [parameter]
    assert words in found[parameter]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"steps": 27, "sampler": "DPM++ 2M"},
        {"steps": 27, "compat": "optimized", "sampler": "Heun"},
        {"sampler": "PLMS", "eta": 0.5, "compat": "optimized"},
        {"width": 480, "init_image": "x.png"},
        {"seed": 2**32 - 1},
        {"seed": 2**40, "compat": "optimized"},
        {"seed": None, "scale": 1.0},
    ],
)
def test_what_they_could_is_not(changes: dict[str, Any]) -> None:
    assert list(refusals({**ROW, **changes})) == []
