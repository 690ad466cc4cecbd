"""`promptmill workers`."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from sqlalchemy import update

from db.ledger import Ledger
from db.models import WORKERS, Worker

Call = Callable[..., Result]
FACTS = {"host": "here", "pid": 1, "state": "rendering", "device": "gpu 0 (NVIDIA H200)", "model": "demo"}


@pytest.fixture
def reported(home_ledger: Ledger) -> Ledger:
    home_ledger.report_worker("gpu0-1@here", **FACTS, jobs_done=12, rate=1.5, memory=2**31)
    return home_ledger


def age(ledger: Ledger, seconds: float) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(update(WORKERS).values(seen_at=Worker.seen_at - seconds))


@pytest.mark.usefixtures("reported")
def test_workers_are_listed_with_what_they_do(promptmill: Call) -> None:
    line = promptmill("workers").stdout.splitlines()[1]
    assert " ".join(line.split()) == "gpu0-1@here here gpu 0 (NVIDIA H200) rendering 12 1.50 2.0G 0 s ago demo"


@pytest.mark.usefixtures("reported")
def test_a_program_gets_every_field(promptmill: Call) -> None:
    (found,) = map(json.loads, promptmill("workers", "--json").stdout.splitlines())
    assert set(found) == set(WORKERS.columns.keys())
    assert (found["name"], found["jobs_done"], found["vram"]) == ("gpu0-1@here", 12, None)


def test_a_worker_that_fell_silent_is_dead(reported: Ledger, promptmill: Call) -> None:
    age(reported, 60)
    assert " dead " in promptmill("workers").stdout


def test_a_worker_that_ended_as_it_should_is_gone_and_so_are_the_long_dead(reported: Ledger, promptmill: Call) -> None:
    age(reported, 90_000)
    reported.report_worker("gpu1-2@here", host="here", pid=2)
    reported.bury_worker("gpu1-2@here")
    reported.forget_worker("another@here")
    assert [line.split()[0] for line in promptmill("workers").stdout.splitlines()] == ["worker", "gpu1-2@here"]


def test_a_batch_that_is_held_back_says_why(reported: Ledger, promptmill: Call) -> None:
    promptmill("submit", "-", "--model", "demo", text="a cat\n")
    reported.hold_jobs(1, "demo", "checkpoint", "No such file.")
    watched = promptmill("watch")
    assert watched.exit_code == 1
    assert "1 jobs for demo are held back: too many in a row failed with the cause checkpoint" in watched.stderr
    assert "1, checkpoint: No such file." in promptmill("status", "1").stdout
    assert reported.start_jobs([1], "w", 15) == []
    reported.resume_batch(1)
    assert reported.start_jobs([1], "w", 15)
