"""What records become: the jobs that were counted, the same ones again, or none at all."""

import hashlib
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.settings import DEFAULTS, read_toml
from db import queries
from db.ledger import Ledger
from db.search import Query, find
from producer.errors import InvalidPromptFile
from producer.expansion import Expansion
from producer.origin import describe_origin
from producer.prompts import PromptFile, Row
from producer.sweep import Sweeps, read_sweep
from producer.wanted import Wanted

JOB = read_toml(DEFAULTS)["job"]
STYLES = "name,prompt,negative_prompt\nPhoto,photo of {prompt},drawing\nOld,1900s,\n"
Submit = Callable[..., Result]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., PromptFile]:
    """A prompt file of this text, with what is wanted of it."""

    def opened(text: str, *, styled: bool = False, **wanted: Any) -> PromptFile:
        (tmp_path / "a.csv").write_text(text, encoding="utf-8")
        (tmp_path / "wildcards").mkdir(exist_ok=True)
        (tmp_path / "wildcards" / "colour.txt").write_text("red\nblue\n")
        (tmp_path / "styles.csv").write_text(STYLES)
        sweeps = Sweeps([read_sweep(sweep) for sweep in wanted.pop("sweep", ())])
        wanted |= {"styles_file": tmp_path / "styles.csv"} if styled else {}
        expansion = Expansion(Wanted(**{"wildcards": tmp_path / "wildcards", "sweeps": sweeps, **wanted}))
        return PromptFile(tmp_path / "a.csv", defaults=JOB, expansion=expansion)

    return opened


def submit(call: Submit, text: str, *words: object) -> Result:
    Path("a.csv").write_text(text, encoding="utf-8")
    Path("wildcards").mkdir(exist_ok=True)
    Path("wildcards/colour.txt").write_text("red\nblue\n")
    Path("styles.csv").write_text(STYLES)
    return call("submit", "a.csv", *words)


def jobs_of(ledger: Ledger) -> list[Any]:
    return list(reversed(find(ledger.engine, Query(), limit=1000)))


def problems(file: PromptFile) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidPromptFile) as error:
        file.check()
    return [(problem.line, problem.column, problem.message) for problem in error.value.problems]


def seen(rows: list[Row]) -> list[tuple[object, ...]]:
    return [(row.parameters.prompt, row.parameters.steps, row.parameters.seed, row.first) for row in rows]


def test_braces_are_text_unless_templates_are_asked_for_and_that_is_said_once(
    opened: Callable[..., PromptFile],
) -> None:
    file = opened("prompt\n{red|blue} cat\n__colour__ dog\na {cat}\n")
    assert [row.parameters.prompt for row in file.rows()] == ["{red|blue} cat", "__colour__ dog", "a {cat}"]
    assert [row.template for row in file.rows()] == [None, None, None]
    assert [(problem.line, problem.message.partition(",")[0]) for problem in file.warnings.problems] == [
        (2, "looks like a template"),
    ]


def test_every_prompt_of_a_template_is_a_row_and_seeds_go_on(opened: Callable[..., PromptFile]) -> None:
    file = opened("prompt,seed,n,steps\n{red|blue} {cat|dog},7,2,9\nplain,1,1,9\n", mode="combinatorial")
    assert file.check() == 9
    assert seen(list(file.rows())) == [
        ("red cat", 9, 7, 0), ("red dog", 9, 9, 2), ("blue cat", 9, 11, 4), ("blue dog", 9, 13, 6), ("plain", 9, 1, 0),
    ]  # fmt: skip


def test_by_chance_every_image_has_a_prompt_of_its_own(opened: Callable[..., PromptFile]) -> None:
    file = opened("prompt,seed,n\n{a|b|c|d},7,8\n", mode="random", seed=1)
    assert (file.check(), len({row.parameters.prompt for row in file.rows()})) == (8, 4)
    assert [row.parameters.seed for row in file.rows()] == list(range(7, 15))


def test_as_many_prompts_are_drawn_as_are_asked_for(opened: Callable[..., PromptFile]) -> None:
    file = opened("prompt,n\n{a|b},2\nplain,2\n", mode="random", seed=1, prompts=3)
    assert [(row.line, row.parameters.num_images) for row in file.rows()] == [(2, 2), (2, 2), (2, 2), (3, 2)]


def test_the_same_seed_draws_the_same_and_another_others(opened: Callable[..., PromptFile]) -> None:
    def drawn(seed: int) -> list[str]:
        text = "prompt,n\n{a|b|c|d|e|f|g|h}{1|2|3|4|5|6},9\n{a|b|c|d|e|f|g|h},9\n"
        return [row.parameters.prompt for row in opened(text, mode="random", seed=seed).rows()]

    assert drawn(5) == drawn(5) != drawn(6)


def test_rows_that_follow_change_no_draw(opened: Callable[..., PromptFile]) -> None:
    first, longer = "prompt,n\n{a|b|c|d},9\n", "prompt,n\n{a|b|c|d},9\n{e|f},3\n"
    rows = [list(opened(text, mode="random", seed=5).rows()) for text in (first, longer)]
    assert rows[0] == rows[1][:9]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.booleans(), st.integers(1, 3))
def test_jobs_are_counted_as_they_are_made(options: list[int], images: int, chance: bool, swept: int) -> None:
    prompt = "".join("{" + "|".join(map(str, range(size))) + "}" for size in options)
    sweeps = Sweeps([read_sweep(f"steps=1:{swept}"), read_sweep("scale=3,4")])
    expansion = Expansion(Wanted(mode="random" if chance else "combinatorial", sweeps=sweeps))
    record = expansion.read(1, {"prompt": prompt, "negative_prompt": "", "num_images": images, "seed": 3}, {})
    rows = list(record.rows())
    assert record.jobs == sum(row.values["num_images"] for row in rows)
    places = [row.first + image for row in rows for image in range(row.values["num_images"])]
    assert places == list(range(record.jobs))


def test_a_sweep_goes_over_every_row_and_over_its_cells(opened: Callable[..., PromptFile]) -> None:
    file = opened("prompt,steps,size\ncat,9,64x64\ndog,,\n", sweep=["steps=4,5", "height=128"])
    found = [
        (row.parameters.prompt, row.parameters.steps, row.parameters.width, row.parameters.height)
        for row in file.rows()
    ]
    assert found == [("cat", 4, 64, 128), ("cat", 5, 64, 128), ("dog", 4, 128, 128), ("dog", 5, 128, 128)]
    assert [str(problem).partition(": ")[2] for problem in file.warnings.problems] == [
        "steps: is swept; what the cells of this column say is not heeded",
        "size: is swept; what the cells of this column say is not heeded",
    ]


def test_swept_rows_share_the_seed_that_is_drawn(promptmill: Submit, home_ledger: Ledger) -> None:
    submit(promptmill, "prompt,n\n{cat|dog},2\n", "--template", "combinatorial", "--sweep", "steps=4,5,6")
    found = [(job.prompt, job.steps, job.image_index) for job in jobs_of(home_ledger)]
    seeds = [job.seed for job in jobs_of(home_ledger)]
    assert found[:4] == [("cat", 4, 0), ("cat", 4, 1), ("cat", 5, 2), ("cat", 5, 3)]
    assert seeds[0:2] == seeds[2:4] == seeds[4:6] != seeds[6:8] == seeds[8:10]


def test_what_is_wrong_with_a_swept_row_is_said_once(opened: Callable[..., PromptFile]) -> None:
    file = opened("prompt,n\ncat,2\n", sweep=["seed=9223372036854775807", "scale=3,4,5"])
    assert [place[:2] for place in problems(file)] == [(2, "seed")]


def test_texts_are_added_around_prompts_and_styles_around_those(opened: Callable[..., PromptFile]) -> None:
    text = 'prompt,negative_prompt,style\n{a|b} cat,ugly,\ndog,,"Old, Photo"\n'
    wanted = {"prepend": "the, ", "append": ", 8k", "append_negative": "bad", "styles": ("Old",)}
    file = opened(text, styled=True, mode="combinatorial", **wanted)
    found = [(row.parameters.prompt, row.parameters.negative_prompt, row.tags) for row in file.rows()]
    assert found == [
        ("the, a cat, 8k, 1900s", "ugly, bad", {}),
        ("the, b cat, 8k, 1900s", "ugly, bad", {}),
        ("photo of the, dog, 8k, 1900s, 1900s", "bad, drawing", {}),
    ]


def test_without_a_file_of_styles_a_style_is_a_tag(opened: Callable[..., PromptFile]) -> None:
    (row,) = opened("prompt,style\ncat,Photo\n").rows()
    assert (row.parameters.prompt, row.tags, row.template) == ("cat", {"style": "Photo"}, None)


def test_what_is_wrong_is_said_with_line_and_column(opened: Callable[..., PromptFile]) -> None:
    text = "prompt,negative_prompt,style\n{a,,\ncat,__colours__,\ndog,,Phot\n{|x},,\n"
    assert problems(opened(text, styled=True, mode="combinatorial")) == [
        (2, "prompt", "character 1: the { is not closed; add a }, or write \\{ for a brace that is text"),
        (3, "negative_prompt", "there is no wildcard __colours__; did you mean colour?"),
        (4, "style", "'Phot' is no style; did you mean Photo?"),
        (5, "prompt", "is empty; a text of 1 to 8000 characters is needed"),
    ]


@pytest.mark.parametrize(
    ("text", "wanted", "jobs"),
    [
        ("{a|b}" * 40, {"mode": "combinatorial"}, "1,099,511,627,777"),
        ("{a|b}" * 80, {"mode": "combinatorial"}, "more than 1,000,000,000,000,000,000"),
        ("{a|b}", {"mode": "random", "prompts": 10**6}, "1,000,001"),
        ("cat", {"sweep": ["seed=1:1000", "steps=1:200"]}, "400,000"),
    ],
)
def test_too_many_jobs_are_counted_and_refused_at_once(
    opened: Callable[..., PromptFile], text: str, wanted: dict[str, Any], jobs: str
) -> None:
    began = time.process_time()
    ((line, _, message),) = problems(opened(f"prompt\n{text}\ndog\n", **wanted))
    assert line == 0
    assert message.startswith(
        f"becomes {jobs} jobs by its templates and sweeps; at most 100,000 are allowed: take fewer"
    )
    assert time.process_time() - began < 1


def test_a_file_without_templates_may_have_any_number_of_rows(opened: Callable[..., PromptFile]) -> None:
    assert opened("prompt,n\ncat,9\n", max_jobs=5).check() == 9


def test_memory_does_not_grow_with_what_a_template_becomes(opened: Callable[..., PromptFile]) -> None:
    file = opened("prompt\n{a|b|c} " + "{0|1|2|3|4|5|6|7|8|9}" * 3 + "\n", mode="combinatorial")
    tracemalloc.start()
    try:
        assert file.check() == 3000
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()


def test_what_a_prompt_was_made_of_is_recorded_and_shown(promptmill: Submit, home_ledger: Ledger) -> None:
    words = ("--template", "combinatorial", "--template-seed", 7, "--wildcards", "wildcards", "--styles", "styles.csv")
    submit(promptmill, "prompt\n__colour__ cat\n", *words, "--style", "Photo", "--sweep", "steps=4,5")
    first, *_, last = jobs_of(home_ledger)
    assert (last.prompt, last.negative_prompt, last.steps) == ("photo of blue cat", "drawing", 5)
    digest = hashlib.sha256(b"red\nblue\n").hexdigest()
    assert first.template["wildcards"] == last.template.pop("wildcards") == {"colour": digest}
    assert last.template.pop("styles_sha256")
    assert last.template == {
        "prompt": "__colour__ cat", "template": "photo of __colour__ cat", "mode": "combinatorial", "seed": 7,
        "styles": ["Photo"], "sweep": ["steps"], "number": 1,
    }  # fmt: skip
    shown = promptmill("show", last.id).stdout
    assert (
        "photo of __colour__ cat (combinatorial, seed 7, number 1, styles Photo, swept steps, wildcards colour" in shown
    )


@pytest.mark.parametrize("origin", [None, 3, "x", [], {}, {"wildcards": 3, "styles": {}, "sweep": "x", "prompt": 4}])
def test_any_origin_can_be_described(origin: object) -> None:
    assert isinstance(describe_origin(origin), str)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--template-seed", "3"], "--template-seed does nothing without --template random or"),
        (["--template-prompts", "3"], "--template-prompts does nothing without --template random; add that"),
        (["--wildcards", "wildcards"], "--wildcards does nothing without --template random"),
        (["--template", "random", "--wildcards", "no"], "no is no folder of wildcards; give one with --wildcards"),
        (["--template", "random"], "a.csv:2: prompt: __colour__ names a wildcard, and there is no folder of them"),
        (["--style", "Photo"], "--style Photo needs a file of styles; give one with --styles"),
        (["--styles", "styles.csv", "--style", "Phot"], "'Phot' is no style; did you mean Photo?"),
        (["--styles", "no.csv"], "no.csv is no file of styles; name one with --styles."),
        (["--sweep", "steps=0"], "steps: '0' is not a whole number from 1 to 1000"),
        (["--sweep", "steps=1", "--sweep", "ddim_steps=2"], "ddim_steps sweeps steps a second time, after steps"),
        (["--sweep", "steps=1:9", "--max-jobs", "8"], "becomes 9 jobs by its templates and sweeps; at most 8"),
    ],
)  # fmt: skip
def test_nothing_is_queued_of_what_is_refused(
    promptmill: Submit, home_ledger: Ledger, words: list[str], message: str
) -> None:
    result = submit(promptmill, "prompt\n__colour__ cat\n", *words)
    assert result.exit_code == 2
    assert message in result.output
    assert jobs_of(home_ledger) == []
    assert list(queries.batches(home_ledger.engine, 10)) == []


def test_settings_name_wildcards_and_styles(
    promptmill: Submit, home_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTMILL_WILDCARDS", "wildcards")
    monkeypatch.setenv("PROMPTMILL_STYLES", "styles.csv")
    submit(promptmill, "prompt\n__colour__ cat\n", "--template", "combinatorial", "--style", "Photo")
    assert [job.prompt for job in jobs_of(home_ledger)] == ["photo of red cat", "photo of blue cat"]
    monkeypatch.setenv("PROMPTMILL_MAX_JOBS", "1")
    assert submit(promptmill, "prompt\n__colour__ cat\n", "--template", "combinatorial").exit_code == 2


def test_an_unchanged_template_file_has_nothing_new(promptmill: Submit, home_ledger: Ledger) -> None:
    words = ("--template", "random", "--template-seed", 7)
    submit(promptmill, "prompt,n\n{a|b},6\n", *words)
    keys = [job.content_key for job in jobs_of(home_ledger)]
    submit(promptmill, "prompt,n\n{a|b},6\n", *words)
    assert len(set(keys)) == 6
    assert keys == [job.content_key for job in jobs_of(home_ledger)][6:]


def test_an_escaped_brace_is_a_change_that_is_recorded(opened: Callable[..., PromptFile]) -> None:
    escaped, plain = opened("prompt\n\\{a|b\\}\nplain\n", mode="random", seed=3).rows()
    assert (escaped.parameters.prompt, plain.template) == ("{a|b}", None)
    assert escaped.template == {"prompt": "\\{a|b\\}", "mode": "random", "seed": 3}
