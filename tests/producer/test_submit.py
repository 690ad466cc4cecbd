"""Rows become jobs: all of them, or none."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from configs.settings import Settings, get_settings
from db import queries
from db.ledger import Ledger
from db.search import Query, find
from producer.errors import InvalidPromptFile
from producer.submit import check, chunk_of, record, slug

LEDGER_IS_EMPTY: list[object] = []


@pytest.fixture
def settings(home: Path) -> Settings:  # noqa: ARG001 - it is where the settings look
    return get_settings()


def write(text: str) -> str:
    Path("prompts.csv").write_text(text, encoding="utf-8")
    return "prompts.csv"


def jobs_of(ledger: Ledger) -> list[object]:
    return list(reversed(find(ledger.engine, Query(), limit=1000)))


def test_image_k_of_a_row_has_its_seed_plus_k(settings: Settings, home_ledger: Ledger) -> None:
    record(check(write("prompt,seed,num_images\ncat,7,3\n"), settings), home_ledger)
    assert [(job.image_index, job.seed) for job in jobs_of(home_ledger)] == [(0, 7), (1, 8), (2, 9)]


def test_in_compvis_a_row_is_a_run_of_one_batch(settings: Settings, home_ledger: Ledger) -> None:
    record(
        check(write("prompt,seed,num_images\ncat,7,2\ndog,,1\n"), settings, compat="compvis", sampler="DDIM"),
        home_ledger,
    )
    first, second, other = jobs_of(home_ledger)
    assert (first.seed, second.seed, first.compat) == (7, 7, "compvis")
    assert second.noise == {"source": "compvis", "start": {"seed": 7, "draw": 0, "rows": 2, "row": 1}}
    assert other.noise["start"] == {"seed": other.seed, "draw": 0, "rows": 1, "row": 0}


def test_in_the_forks_mode_image_k_has_seed_plus_k(settings: Settings, home_ledger: Ledger) -> None:
    record(check(write("prompt,seed,num_images\ncat,7,2\n"), settings, compat="optimized", sampler="PLMS"), home_ledger)
    starts = [(job.seed, job.noise["source"], job.noise["start"]["seed"]) for job in jobs_of(home_ledger)]
    assert starts == [(7, "cuda", 7), (8, "cuda", 8)]


def test_the_card_whose_noise_is_wanted_is_recorded(settings: Settings, home_ledger: Ledger) -> None:
    laptop = structs.replace(settings, noise_threads=46080)
    record(check(write("prompt\ncat\n"), laptop, compat="compvis", sampler="PLMS"), home_ledger)
    assert [job.noise["threads"] for job in jobs_of(home_ledger)] == [46080]


def test_without_compatibility_there_is_no_record_of_noise(settings: Settings, home_ledger: Ledger) -> None:
    record(check(write("prompt\ncat\n"), settings), home_ledger)
    assert [(job.compat, job.noise, job.weights) for job in jobs_of(home_ledger)] == [(None, None, False)]


def test_what_the_originals_could_not_do_is_refused_by_row(settings: Settings, home_ledger: Ledger) -> None:
    text = "prompt,steps,width,weights\ncat,50,512,\ncat,36,512,\ncat,50,72,\na:1 b:-1,50,512,on\nA: cat,50,512,\n"
    with pytest.raises(InvalidPromptFile) as error:
        check(write(text), settings, compat="compvis", sampler="DDIM")
    assert [(problem.line, problem.column) for problem in error.value.problems] == [
        (3, "steps"),
        (4, "width"),
        (5, "prompt"),
    ]
    assert jobs_of(home_ledger) == []


def test_a_seed_that_is_not_given_is_drawn_and_recorded(settings: Settings, home_ledger: Ledger) -> None:
    record(check(write("prompt,num_images\ncat,2\ndog,1\n"), settings), home_ledger)
    first, second, other = (job.seed for job in jobs_of(home_ledger))
    assert second == first + 1
    assert other not in (first, second)
    assert all(0 <= seed < 2**32 for seed in (first, other))


def test_flags_go_over_the_preset_and_that_over_the_settings(settings: Settings, home_ledger: Ledger) -> None:
    record(check(write("prompt,scale\ncat,3\ndog,\n"), settings, preset="fast", scale=9.0), home_ledger)
    assert [(job.sampler, job.steps, job.scale) for job in jobs_of(home_ledger)] == [("UniPC", 12, 3), ("UniPC", 12, 9)]


def test_a_batch_knows_its_file(settings: Settings, home_ledger: Ledger) -> None:
    batch = record(check(write("prompt\ncat\n"), settings, priority=2, image_format="webp"), home_ledger)
    assert (batch.name, batch.folder, batch.total, batch.priority) == ("prompts.csv", "0001-prompts", 1, 2)
    assert batch.image_format == "webp"
    assert batch.submitted_at


def test_a_bad_row_leaves_nothing_behind(settings: Settings, home_ledger: Ledger) -> None:
    with pytest.raises(InvalidPromptFile):
        check(write("prompt,steps\ncat,20\ndog,0\n"), settings)
    assert queries.batches(home_ledger.engine) == LEDGER_IS_EMPTY


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_a_batch_that_is_not_recorded_whole_is_discarded(
    settings: Settings, home_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    def stop(_batch_id: int) -> None:
        raise end

    submission = check(write("prompt\ncat\n"), settings)
    monkeypatch.setattr(home_ledger, "open_batch", stop)
    with pytest.raises(end):
        record(submission, home_ledger)
    assert jobs_of(home_ledger) == LEDGER_IS_EMPTY


@given(total=st.integers(1, 500), size=st.integers(1, 64))
def test_chunks_are_numbered_without_gaps_and_the_last_are_small(total: int, size: int) -> None:
    numbers = [chunk_of(index, total, size) for index in range(total)]
    lengths = [length for _, length in sorted(Counter(numbers).items())]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(len(lengths)))
    assert max(lengths) <= size
    assert max(lengths[-16:]) <= max(4, size if total > 64 + size else 4)
    assert lengths[-1] <= 4


@pytest.mark.parametrize(
    ("name", "expected"), [("My Prompts (2)", "my-prompts-2"), ("../../etc", "etc"), ("猫", ""), ("a" * 60, "a" * 40)]
)
def test_a_slug_is_safe_as_a_folder(name: str, expected: str) -> None:
    assert slug(name) == expected
