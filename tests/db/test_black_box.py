"""The black box outlives its process, and decides whom a death is charged to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from db import queries
from db.black_box import Activity, BlackBox, abandoned_boxes, box_folder, box_path, read_box
from db.claim import Claim
from db.ledger import Ledger
from db.rescue import rescue_abandoned, rescue_stalled, rescue_worker

Batch = Callable[..., list[int]]

#: A process that is making job 7, has made 3, and is killed.
VICTIM = """
import os, pathlib, signal, sys
from db.black_box import Activity, BlackBox
from db.claim import Claim
box = BlackBox(pathlib.Path(sys.argv[1]))
for number in range(7, 10):
    box.enter(Claim(number, 2))
for number in range(8, 10):
    box.leave(Claim(number, 2))
for _ in range(3):
    box.count()
box.move(Activity.RENDERING)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_was_making_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "w@here.box"
    done = subprocess.run([sys.executable, "-c", VICTIM, str(path)], check=False)
    box = read_box(path)
    assert done.returncode == -signal.SIGKILL
    assert box
    assert (box.claims, box.ended, box.activity) == ({Claim(7, 2)}, 3, Activity.RENDERING)
    assert list(abandoned_boxes(tmp_path)) == [path]


def test_the_box_of_a_living_process_is_not_abandoned(tmp_path: Path) -> None:
    BlackBox(tmp_path / "w@here.box")
    assert list(abandoned_boxes(tmp_path)) == []


def test_a_box_shows_when_its_process_last_moved(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "w@here.box")
    before = time.monotonic()
    box.move(Activity.OPENING)
    box.live()
    reading = read_box(box.path)
    assert reading
    assert before <= reading.moved_at <= reading.alive_at <= time.monotonic()
    assert (reading.pid, reading.activity) == (os.getpid(), Activity.OPENING)


def test_more_jobs_than_a_box_has_places_do_no_harm(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "w@here.box")
    claims = [Claim(number, 1) for number in range(1, 1100)]
    for claim in claims:
        box.enter(claim)
    for claim in claims:
        box.leave(claim)
    assert box.await_empty(0)


@pytest.mark.parametrize("content", [b"", b"x" * 99, bytes(8 * (16 + 2048))])
def test_a_box_that_is_none_or_of_another_boot_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w@here.box"
    path.write_bytes(content)
    assert read_box(path) is None


@pytest.fixture
def box(tmp_path: Path) -> BlackBox:
    return BlackBox(box_path(tmp_path, "w@here"))


def attempts(ledger: Ledger, ids: list[int]) -> list[int]:
    return [queries.find_job(ledger.engine, job_id).attempts for job_id in ids]


def test_a_death_is_charged_to_what_was_in_the_making(ledger: Ledger, batch: Batch, box: BlackBox) -> None:
    ids = batch({}, {}, {})
    claims = ledger.start_jobs(ids, "w@here", 15)
    box.enter(claims[1])
    assert rescue_worker(ledger, "w@here", read_box(box.path), 3) == (ids, 0)
    assert attempts(ledger, ids) == [0, 1, 0]


def test_without_a_box_a_death_is_charged_to_all(ledger: Ledger, batch: Batch) -> None:
    ledger.start_jobs(ids := batch({}, {}), "w@here", 15)
    rescue_worker(ledger, "w@here", None, 3)
    assert attempts(ledger, ids) == [1, 1]


def test_a_job_that_was_alone_at_its_third_death_is_poison_and_no_other(
    ledger: Ledger, batch: Batch, box: BlackBox
) -> None:
    ids = batch({}, {})
    for _ in range(3):
        claims = ledger.start_jobs(ids, "w@here", 15)
        box.enter(claims[0])
        rescued = rescue_worker(ledger, "w@here", read_box(box.path), 3)
        box.leave(claims[0])
    assert rescued == (ids[1:], 1)
    assert queries.find_job(ledger.engine, ids[0]).cause == "poison"


def test_an_expired_lease_is_charged_by_the_box_too(
    ledger: Ledger, batch: Batch, box: BlackBox, tmp_path: Path
) -> None:
    ids = batch({}, {})
    box.enter(ledger.start_jobs(ids, "w@here", -1)[0])
    assert rescue_stalled(ledger, tmp_path, 3) == ids
    assert attempts(ledger, ids) == [1, 0]
    assert rescue_stalled(ledger, tmp_path, 3) == []


def test_the_jobs_of_a_dead_neighbour_are_put_back_before_their_lease_ends(
    ledger: Ledger, batch: Batch, tmp_path: Path
) -> None:
    path = box_path(tmp_path, "w@here")
    subprocess.run([sys.executable, "-c", VICTIM, str(path)], check=False)
    ledger.report_worker("w@here", host="here", pid=1)
    ledger.start_jobs(ids := batch({}, {}), "w@here", 15)
    assert rescue_abandoned(ledger, box_folder(tmp_path), 3) == ids
    assert not path.exists()
    assert [row.state for row in queries.workers(ledger.engine)] == ["dead"]
