"""`promptmill render` and its kin as real processes: embedded queue, real worker, tiny checkpoint."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from db import queries
from db.ledger import Ledger
from db.models import JobState
from db.search import Query, find
from tests.conftest import on_valkey
from tests.preloaded import Copy
from tests.worker.conftest import checkpoint_folder  # noqa: F401 - fixture

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[str]"]
COMMAND = (sys.executable, "-m", "producer")
SIZE = ("--width", "64", "--height", "64")


@pytest.fixture
def start(home: Path) -> Iterator[Start]:  # noqa: ARG001 - the command reads its place from the environment
    """Starts `promptmill` as a process; what still runs at the end is killed."""
    with ExitStack() as stack:

        def begin(*words: object, kind: Any = Copy) -> "subprocess.Popen[str]":
            argv = [*COMMAND, *map(str, words)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            process: subprocess.Popen[str] = stack.enter_context(kind(argv, **pipes))
            stack.callback(process.kill)
            return process

        yield begin


@pytest.fixture
def render(start: Start, checkpoint_folder: Path) -> Start:  # noqa: F811
    """Starts `promptmill render` on a file of that many prompts."""

    def begin(count: int, *words: object, kind: Any = Copy) -> "subprocess.Popen[str]":
        Path("prompts.txt").write_text("".join(f"castle {number}\n" for number in range(count)))
        return start("render", "prompts.txt", "--model", checkpoint_folder, *SIZE, *words, kind=kind)

    return begin


def wait_until(process: "subprocess.Popen[str]", condition: Callable[[], object]) -> None:
    """Wait for something that is to come true while the process runs."""
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def succeeded(ledger: Ledger) -> int:
    return queries.counts(ledger.engine, 1)[JobState.SUCCEEDED]


def worker_of(process: "subprocess.Popen[str]") -> psutil.Process:
    return next(child for child in psutil.Process(process.pid).children() if child.name() == "worker")


def check_images(ledger: Ledger, home: Path, count: int) -> None:
    """Every job succeeded, and its file and no other is there."""
    rows = find(ledger.engine, Query(), limit=count + 1)
    assert [row.state for row in rows] == [JobState.SUCCEEDED] * count
    files = {path.relative_to(home / "images").as_posix() for path in home.rglob("images/**/*.*")}
    assert files == {row.image_path for row in rows}


def test_render_makes_every_image_and_leaves_nothing_running(render: Start, home_ledger: Ledger, home: Path) -> None:
    process = render(6, "--steps", 2, kind=subprocess.Popen)
    wait_until(process, lambda: psutil.Process(process.pid).children())
    children = psutil.Process(process.pid).children()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"6 images in {home}/images/0001-prompts" in output
    check_images(home_ledger, home, 6)
    assert not [child for child in children if child.is_running()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_render_is_resumed_where_it_stood(
    render: Start, start: Start, home_ledger: Ledger, home: Path, number: signal.Signals
) -> None:
    process = render(40, "--steps", 12)
    wait_until(process, lambda: succeeded(home_ledger) >= 4)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Stopped; `promptmill resume 1` goes on from there." in output
    made = {row.id: row.finished_at for row in find(home_ledger.engine, Query(), limit=40) if row.image_path}
    assert 4 <= len(made) < 40
    assert start("resume").wait(timeout=120) == 0
    check_images(home_ledger, home, 40)
    rows = find(home_ledger.engine, Query(), limit=40)
    assert made == {row.id: row.finished_at for row in rows if row.id in made}


def test_a_second_interrupt_gives_everything_back_at_once(render: Start, home_ledger: Ledger) -> None:
    process = render(40, "--steps", 1000, kind=subprocess.Popen)
    wait_until(process, lambda: queries.counts(home_ledger.engine, 1)[JobState.RUNNING] > 0)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 1
    assert queries.counts(home_ledger.engine, 1)[JobState.RUNNING] == 0
    assert {row.attempts for row in find(home_ledger.engine, Query(), limit=40)} == {0}


def test_a_worker_that_is_killed_costs_no_image(render: Start, home_ledger: Ledger, home: Path) -> None:
    process = render(32, "--steps", 12)
    # Not while the first are written, all at once: what is half written then is cleared away by `fsck`.
    wait_until(process, lambda: succeeded(home_ledger) >= 16)
    worker_of(process).kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    check_images(home_ledger, home, 32)


def test_nothing_outlives_a_render_that_is_killed(render: Start, home_ledger: Ledger) -> None:
    process = render(400, "--steps", 20, kind=subprocess.Popen)
    wait_until(process, lambda: succeeded(home_ledger) >= 4)
    children = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_a_worker_that_keeps_dying_ends_the_render(
    render: Start, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "broken" / "worker"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("raise SystemExit('the card has fallen off the bus')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    output, _ = render(1, kind=subprocess.Popen).communicate(timeout=60)
    assert "The worker ended 3 times in a row, last with exit code 1" in output
    assert "the card has fallen off the bus" in output
    assert (home / "logs" / "worker.log").read_text().count("fallen off") == 3


def test_a_worker_whose_settings_do_not_let_it_start_ends_the_render_at_once(
    render: Start, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTMILL_SAFETY", "flag")
    output, _ = render(1).communicate(timeout=60)
    assert "The worker does not start with these settings" in output
    assert "Error: demo has no safety checker; set PROMPTMILL_SAFETY_CHECKER to" in output
    assert (home / "logs" / "worker.log").read_text().count("Error:") == 1


def test_a_render_while_another_runs_is_refused_and_submit_is_not(
    render: Start,
    start: Start,
    home_ledger: Ledger,
    checkpoint_folder: Path,  # noqa: F811
) -> None:
    first = render(40, "--steps", 12)
    wait_until(first, lambda: succeeded(home_ledger) >= 1)
    second = render(1)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "`promptmill submit FILE` adds to its queue" in output
    Path("more.txt").write_text("a cat\n")
    more = ("more.txt", "--model", checkpoint_folder, *SIZE, "--steps", 2, "--priority", 0, "--watch")
    assert start("submit", *more).wait(timeout=60) == 0
    assert first.wait(timeout=120) == 0


def test_a_worker_with_no_queue_runs_its_own_and_takes_what_waits(
    start: Start,
    home_ledger: Ledger,
    home: Path,
    checkpoint_folder: Path,  # noqa: F811
) -> None:
    Path("prompts.txt").write_text("a cat\na dog\n")
    assert start("submit", "prompts.txt", "--model", checkpoint_folder, *SIZE, "--steps", 2).wait(timeout=60) == 0
    worker = start("worker")
    assert start("watch").wait(timeout=60) == 0
    worker.send_signal(signal.SIGTERM)
    output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, output
    check_images(home_ledger, home, 2)


@on_valkey
def test_render_takes_part_in_a_configured_queue(
    render: Start, broker: str, home_ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", broker)
    assert render(4, "--steps", 2).wait(timeout=120) == 0
    check_images(home_ledger, home, 4)
    assert not (home / "valkey").exists()


@on_valkey
def test_a_running_worker_takes_what_is_submitted_to_a_real_queue(
    start: Start,
    broker: str,
    home_ledger: Ledger,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint_folder: Path,  # noqa: F811
) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", broker)
    worker = start("worker", "--name", f"test-{os.getpid()}@here")
    Path("prompts.txt").write_text("a cat\na dog\n")
    sent = start("submit", "prompts.txt", "--model", checkpoint_folder, *SIZE, "--steps", 2, "--watch")
    assert sent.wait(timeout=120) == 0
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    check_images(home_ledger, home, 2)
