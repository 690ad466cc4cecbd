"""The command line: exit codes, one sentence an error, and a document that is current."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from configs.settings import Settings, read_settings
from db import migrate
from docs.generate_cli import TARGET, generate
from producer.cli import cli

Call = Callable[..., Result]
NOWHERE = "redis://:secret@127.0.0.1:1"


@pytest.fixture
def submitted(promptmill: Call) -> Result:
    Path("cats.csv").write_text("prompt\na cat\na dog\n")
    return promptmill("submit", "cats.csv")


def test_without_a_queue_a_batch_is_recorded_for_later(submitted: Result, promptmill: Call) -> None:
    assert submitted.exit_code == 0
    assert "Recorded; it is sent when" in submitted.stderr
    assert promptmill("status", "cats.csv").stdout.splitlines()[4].split() == ["queued", "2"]


def test_a_queue_out_of_reach_leaves_the_batch_recorded(promptmill: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", NOWHERE)
    result = promptmill("submit", "-", text="a cat\n")
    assert result.exit_code == 1
    assert "Batch 1 is recorded and not sent yet: `promptmill resume 1` sends it." in result.stderr
    assert "secret" not in result.stderr
    assert "1      " in promptmill("status").stdout


def test_a_bad_file_exits_with_2_and_names_every_problem(promptmill: Call) -> None:
    Path("bad.csv").write_text("prompt,steps\n,20\ncat,0\n")
    result = promptmill("submit", "bad.csv")
    assert result.exit_code == 2
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == ["bad.csv:2", "bad.csv:3", "Error"]
    assert promptmill("history", "--json").stdout == ""


@pytest.mark.parametrize(
    ("words", "exit_code", "sentence"),
    [
        (["submit", "cats.csv", "--steps", "0"], 2, "'0' is not a whole number from 1 to 1000."),
        (["submit", "cats.csv", "--preset", "none"], 2, "There is no preset 'none'; there are:"),
        (["submit", "missing.csv"], 2, "missing.csv: does not exist"),
        (["render", "cats.csv", "--vram", "6"], 2, "'6' is no amount of memory; give a number with M or G, such as 6G"),
        (["worker", "--vram", "lots"], 2, "'lots' is no amount of memory"),
        (["history", "--sampler", "Eulr a"], 2, "did you mean Euler a"),
        (["history", "--tag", "x"], 2, "'x' is not NAME=VALUE"),
        (["watch", "99"], 1, "There is no batch 99; `promptmill status` lists them"),
        (["cancel", "other.csv"], 1, "There is no batch other.csv"),
        (["show", "99"], 1, "There is no job 99"),
        (["show", "none.png"], 2, "none.png cannot be read as a PNG, JPEG or WebP image"),
    ],
)
@pytest.mark.usefixtures("submitted")
def test_an_error_is_a_sentence(promptmill: Call, words: list[str], exit_code: int, sentence: str) -> None:
    result = promptmill(*words)
    assert result.exit_code == exit_code
    assert sentence in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("words", [["history"], ["models", "list"], ["txt2img", "--prompt", "a cat", "--plms"]])
def test_a_home_that_is_a_file_is_a_sentence(home: Path, promptmill: Call, words: list[str]) -> None:
    home.write_text("no folder")
    result = promptmill(*words)
    assert result.exit_code == 1
    assert "cannot be" in result.output
    assert not isinstance(result.exception, OSError)


def test_a_damaged_ledger_is_a_sentence(home: Path, promptmill: Call) -> None:
    home.mkdir()
    (home / "ledger.sqlite3").write_bytes(b"no database at all" * 1000)
    result = promptmill("status")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "file is not a database" in result.stderr


@pytest.mark.usefixtures("submitted")
def test_a_cancelled_batch_can_be_tried_again(promptmill: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "2 jobs of batch 1 are cancelled" in promptmill("cancel").stdout
    assert promptmill("watch").exit_code == 1
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", NOWHERE)
    assert "2 jobs of batch 1 are tried again" in promptmill("retry").stderr
    assert promptmill("history", "--state", "queued", "--json").stdout.count("\n") == 2


@pytest.mark.usefixtures("submitted")
def test_a_paused_batch_says_so(promptmill: Call) -> None:
    assert promptmill("pause", "1").exit_code == 0
    assert "paused" in promptmill("status").stdout


def test_resuming_a_batch_that_is_done_starts_nothing(promptmill: Call, submitted: Result, home: Path) -> None:
    assert submitted.exit_code == 0
    promptmill("cancel")
    assert promptmill("resume").exit_code == 1
    assert not (home / "valkey").exists()


def test_the_flags_of_a_worker_go_over_its_preset(promptmill: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Settings] = []

    def start(*_: object) -> None:
        started.append(read_settings(os.environ, Path.cwd()))
        sys.exit(0)

    # Set first, so that they are as before when the test is over.
    for name in ("VRAM", "MAX_ROWS", "OFFLOAD"):
        monkeypatch.setenv(f"PROMPTMILL_{name}", "")
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", NOWHERE)
    monkeypatch.setattr("producer.fleet.Fleet.__enter__", start)
    promptmill("worker", "--preset", "low-vram")
    promptmill("worker", "--preset", "low-vram", "--vram", "6G")
    assert [(s.vram, s.max_rows, s.offload) for s in started] == [(4 * 2**30, 4, True), (6 * 2**30, 4, True)]


def test_upgrade_tells_the_revision(promptmill: Call) -> None:
    assert f"The ledger is at revision {migrate.HEAD}." in promptmill("db", "upgrade").stdout


def test_every_command_and_option_is_explained() -> None:
    def walk(command: object) -> None:
        assert command.help  # type: ignore[attr-defined]
        for below in getattr(command, "commands", {}).values():
            walk(below)

    walk(cli)


def test_the_reference_is_what_the_commands_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == generate(), "run `make docs`"


@pytest.mark.parametrize("module", ["celery", "alembic", "rich", "sqlalchemy"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, producer.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
