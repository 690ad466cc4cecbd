"""Finding jobs again, and printing them."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import Result

from configs.plain_text import plain
from db.ledger import Ledger
from producer.history import HEADER
from producer.table import print_table
from tests.db.conftest import IMAGE

ROWS = """\
prompt,seed,steps,scale,sampler,category
a red castle,1,20,7.5,DDIM,Places
a cat,2,30,5,Euler a,Animals
red fox,3,30,7.5,DDIM,Animals
"""
Call = Callable[..., Result]


@pytest.fixture
def history(promptmill: Call) -> Call:
    """`promptmill history` over a batch of three jobs; returns the seeds it lists."""
    Path("prompts.csv").write_text(ROWS)
    assert promptmill("submit", "prompts.csv").exit_code == 0
    return lambda *words: [
        json.loads(line)["seed"] for line in promptmill("history", "--json", *words).stdout.splitlines()
    ]


def test_the_newest_come_first(history: Call) -> None:
    assert history() == [3, 2, 1]


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["--steps", "30"], [3, 2]),
        (["--scale", "7.5"], [3, 1]),
        (["--sampler", "k_euler_a"], [2]),
        (["--sampler", "ddim", "--steps", "30"], [3]),
        (["--seed", "1"], [1]),
        (["--tag", "category=Animals"], [3, 2]),
        (["--state", "failed"], []),
        (["--batch", "prompts.csv"], [3, 2, 1]),
        (["RED"], [3, 1]),
        (["red", "castle"], [1]),
        (["--limit", "2"], [3, 2]),
        (["--before", "3", "--limit", "0"], [2, 1]),
    ],
)
def test_history_finds(history: Call, words: list[str], seeds: list[int]) -> None:
    assert history(*words) == seeds


def test_a_flagged_image_is_found_and_marked(history: Call, promptmill: Call, home_ledger: Ledger) -> None:
    good, bad = home_ledger.start_jobs([1, 2], "w", 15)
    home_ledger.finish_job(good, IMAGE)
    home_ledger.finish_job(bad, {**IMAGE, "flagged": "flat"})
    assert history("--flagged") == [2]
    assert "0001-cats/1.png (flat)" in promptmill("history", "--flagged").stdout


def test_unsafe_images_are_listed_with_the_score_and_counted(
    history: Call, promptmill: Call, home_ledger: Ledger
) -> None:
    unsafe, safe, flat = home_ledger.start_jobs([1, 2, 3], "w", 15)
    home_ledger.finish_job(unsafe, {**IMAGE, "flagged": "unsafe", "safety_score": 0.013})
    home_ledger.finish_job(safe, {**IMAGE, "safety_score": -0.2})
    home_ledger.finish_job(flat, {**IMAGE, "flagged": "flat"})
    assert history("--flagged") == [3, 1]
    assert "0001-cats/1.png (unsafe +0.013)" in promptmill("history", "--flagged").stdout
    listing = "Flagged: 1 flat, 1 unsafe; `promptmill history --batch 1 --flagged` lists them."
    assert listing in promptmill("watch").stderr
    assert "1 flat, 1 unsafe" in promptmill("status", "1").stdout


def test_csv_has_every_field_by_the_ledgers_words(history: Call, promptmill: Call) -> None:
    assert history()
    rows = list(csv.DictReader(io.StringIO(promptmill("history", "--csv").stdout)))
    assert [row["prompt"] for row in rows] == ["red fox", "a cat", "a red castle"]
    assert json.loads(rows[0]["tags"]) == {"category": "Animals"}
    assert {"negative_prompt", "seed", "state", "image_sha256", "image_exact", "image_vae_batch"} <= rows[0].keys()


def test_the_table_shows_state_parameters_and_prompt(history: Call, promptmill: Call) -> None:
    assert history()
    header, newest, *_ = promptmill("history").stdout.splitlines()
    assert header.split() == list(HEADER)
    assert newest.split()[:6] == ["3", "1", "queued", "3", "30", "7.5"]
    assert newest.endswith("red fox")


def test_control_characters_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain("a\x1b[2Jb\rc\u202ed") == "a\\x1b[2Jb c\\u202ed"
    print_table(("x",), [("\x1b]0;title\x07",)])
    assert "\x1b" not in capsys.readouterr().out


def test_a_query_is_listed_in_the_order_asked_for(history: Call) -> None:
    assert history("steps:20..30", "scale>6", "--sort", "seed", "--ascending") == [1, 3]
    assert history("-red") == [2]


def test_the_next_page_is_where_the_hint_says(history: Call, promptmill: Call) -> None:
    hint = promptmill("history", "--sort", "scale", "--limit", "1").stderr.split()[-1]
    assert history("--sort", "scale", "--after", hint) == [1, 2]
    assert promptmill("history", "--after", hint).exit_code == 2


def test_a_wrong_query_is_pointed_at(history: Call, promptmill: Call) -> None:
    assert history()
    done = promptmill("history", "red", "stesp:3")
    assert (done.exit_code, done.stderr.splitlines()[1:]) == (2, ["  red stesp:3", "      ^"])


def test_the_paths_of_images_are_for_xargs(history: Call, promptmill: Call, home_ledger: Ledger) -> None:
    assert history()
    (claim,) = home_ledger.start_jobs([1], "w", 15)
    home_ledger.finish_job(claim, IMAGE)
    shown = promptmill("history", "--paths", "-0", "--limit", "0").stdout
    assert shown.split("\0") == [str(Path("home/images/0001-cats/1.png").absolute()), ""]


def test_stats_are_of_what_ended_and_the_word_can_be_searched(
    history: Call, promptmill: Call, home_ledger: Ledger
) -> None:
    assert history("--", "stats") == []
    home_ledger.cancel_batch(1)
    shown = promptmill("history", "stats", "--by", "sampler", "--json").stdout.splitlines()
    assert [json.loads(line)["sampler"] for line in shown] == ["DDIM", "Euler a"]
    assert promptmill("history", "stats").stdout.startswith("model")


def test_the_shell_completes_fields() -> None:
    from producer.cli import cli

    completed = ShellComplete(cli, {}, "promptmill", "X").get_completions(["history", "red"], "st")
    assert {"steps:", "state:", "state:failed"} <= {item.value for item in completed}
