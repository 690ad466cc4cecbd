"""Several real worker processes on one real queue: every image is made once, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from configs.celeryconfig import create_app
from db import outbox, queries
from db.ledger import Ledger, NewBatch
from db.models import JobState
from db.search import Query, find, term
from db.session import sqlite_driver
from tests import freezing
from tests.conftest import on_valkey
from tests.db.conftest import job
from tests.preloaded import Copy
from tests.worker.conftest import checkpoint_folder  # noqa: F401 - fixture

pytestmark = pytest.mark.slow

JOBS = 48
Start = Callable[..., "subprocess.Popen[bytes]"]
#: A worker that loses its device when it renders the job with seed 5.
LOSING = """
import torch
from worker.__main__ import main
from worker.renderer import Renderer

step = Renderer.step

def lose(self, flights):
    if any(flight.sample.seed == 5 for flight in flights):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
    step(self, flights)

Renderer.step = lose
main()
"""


@pytest.fixture
def start_worker(home: Path, broker: str) -> Iterator[Start]:
    """Starts a worker process by name; what still runs at the end is killed."""
    with ExitStack() as stack:
        log = stack.enter_context((home.parent / "workers.log").open("wb"))

        def start(name: str, program: Sequence[str] = ("-m", "worker")) -> "subprocess.Popen[bytes]":
            env = {**os.environ, "PROMPTMILL_BROKER_URL": broker, "PROMPTMILL_LEASE_SECONDS": "3"}
            argv = [sys.executable, *program, "--name", name]
            process = stack.enter_context(Copy(argv, env=env, stderr=log))
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def submitted(home_ledger: Ledger, broker: str, checkpoint_folder: Path) -> Ledger:  # noqa: F811
    """A batch of small jobs for the tiny checkpoint, sent in chunks of four."""
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=JOBS)
    batch_id = home_ledger.create_batch(new)
    small: dict[str, Any] = {"model": str(checkpoint_folder), "steps": 12, "width": 32, "height": 32}
    home_ledger.add_jobs([job(batch_id, chunk=i // 4, seed=i, **small) for i in range(JOBS)])
    home_ledger.open_batch(batch_id)
    outbox.send_batch(create_app(broker), home_ledger.engine, batch_id)
    return home_ledger


def succeeded(ledger: Ledger) -> int:
    return queries.counts(ledger.engine, 1)[JobState.SUCCEEDED]


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def check_exactly_once(ledger: Ledger, images: Path) -> None:
    """Every job has one image row, every row its file, and there is no other file."""
    rows = find(ledger.engine, Query(), limit=JOBS + 1)
    assert [row.state for row in rows] == [JobState.SUCCEEDED] * JOBS
    files = {path.relative_to(images).as_posix() for path in images.rglob("*.png")}
    assert files == {row.image_path for row in rows}


def freeze(worker: "subprocess.Popen[bytes]", ledger: Ledger) -> None:
    """Stop the process between two transactions: SQLite's lock, held by a frozen process, would stop everybody."""
    while True:
        freezing.freeze(worker.pid)
        try:
            with sqlite_driver().connect(ledger.engine.url.database, timeout=0.5) as connection:
                connection.execute("BEGIN IMMEDIATE")
                return
        except sqlite_driver().OperationalError:
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        finally:
            connection.close()


@on_valkey
def test_two_workers_share_a_batch_and_make_each_image_once(submitted: Ledger, start_worker: Start, home: Path) -> None:
    workers = [start_worker(name) for name in ("a@here", "b@here")]
    wait_until(lambda: succeeded(submitted) == JOBS)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(timeout=30) for worker in workers] == [0, 0]
    check_exactly_once(submitted, home / "images")


def test_a_killed_workers_jobs_are_made_by_another(submitted: Ledger, start_worker: Start, home: Path) -> None:
    first = start_worker("first@here")
    wait_until(lambda: succeeded(submitted) >= 4)
    first.kill()
    first.wait()
    start_worker("second@here")
    wait_until(lambda: succeeded(submitted) == JOBS)
    check_exactly_once(submitted, home / "images")


@on_valkey
def test_a_frozen_workers_late_results_are_refused(submitted: Ledger, start_worker: Start, home: Path) -> None:
    frozen = start_worker("frozen@here")
    wait_until(lambda: succeeded(submitted) >= 4)
    freeze(frozen, submitted)
    start_worker("other@here")
    wait_until(lambda: succeeded(submitted) == JOBS)
    frozen.send_signal(signal.SIGCONT)
    time.sleep(2)
    check_exactly_once(submitted, home / "images")


@on_valkey
def test_a_stopped_worker_gives_back_what_it_has_not_begun(submitted: Ledger, start_worker: Start) -> None:
    worker = start_worker("w@here")
    wait_until(lambda: succeeded(submitted) >= 4)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    counts = queries.counts(submitted.engine, 1)
    assert counts[JobState.RUNNING] == 0
    assert counts[JobState.QUEUED] + counts[JobState.SUCCEEDED] == JOBS


@on_valkey
def test_a_flushed_queue_loses_no_job(submitted: Ledger, start_worker: Start, broker: str, home: Path) -> None:
    start_worker("w@here")
    wait_until(lambda: succeeded(submitted) >= 4)
    with create_app(broker).connection_for_write() as connection:
        connection.default_channel.client.flushall()
    wait_until(lambda: succeeded(submitted) == JOBS)
    check_exactly_once(submitted, home / "images")


def unfinished(ledger: Ledger) -> int:
    counts = queries.counts(ledger.engine, 1)
    return counts[JobState.QUEUED] + counts[JobState.RUNNING]


def supervise(worker: "subprocess.Popen[bytes]", ledger: Ledger) -> int | None:
    """Wait until a worker ends or has nothing left to do; its exit code, or None."""
    wait_until(lambda: worker.poll() is not None or not unfinished(ledger))
    return worker.poll()


@on_valkey
def test_a_job_that_loses_the_device_is_failed_and_takes_no_other_with_it(
    submitted: Ledger, start_worker: Start, home: Path
) -> None:
    codes = []
    while unfinished(submitted):
        codes.append(supervise(start_worker("w@here", ("-c", LOSING)), submitted))
    assert codes[:2] == [1, 1]
    (poison,) = find(submitted.engine, Query((term("state", "failed"),)), limit=JOBS)
    assert (poison.seed, poison.cause, poison.attempts) == (5, "poison", 3)
    assert len(list((home / "images").rglob("*.png"))) == succeeded(submitted) == JOBS - 1
