"""Faults of the device, injected into real worker processes: no job is lost and none made twice, and no row is idle."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from configs.celeryconfig import create_app
from db import outbox
from db.ledger import Ledger, NewBatch
from db.search import Query, find
from tests.conftest import on_valkey
from tests.db.conftest import job
from tests.integration.test_workers import (  # noqa: F401 - fixtures
    JOBS,
    Start,
    check_exactly_once,
    start_worker,
    submitted,
    succeeded,
    supervise,
    unfinished,
    wait_until,
)
from tests.worker.conftest import checkpoint_folder  # noqa: F401 - fixture
from worker.workload import SAMPLERS, SCALES, STEPS

# Which server it is makes no difference here.
pytestmark = [pytest.mark.slow, on_valkey]

#: A worker for which more than four rows are too many, that now and then computes NaN in half precision, and that loses
#: its device once.
FAULTY = """
import os
from pathlib import Path
import torch
from worker.__main__ import main
from worker.renderer import Renderer

step, asserted = Renderer.step, Path(os.environ["PROMPTMILL_HOME"]) / "asserted"

def stumble(self, flights):
    if self.checkpoint.dtype == torch.float32:
        return step(self, flights)
    if sum(flight.sample.rows for flight in flights) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory")
    if any(flight.sample.seed == 20 for flight in flights) and not asserted.exists():
        asserted.touch()
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
    step(self, flights)
    for flight in flights:
        if flight.sample.seed % 8 == 3:
            flight.latents = torch.full_like(flight.latents, torch.nan)

Renderer.step = stumble
main()
"""


def test_no_fault_of_the_device_costs_an_image(
    submitted: Ledger,  # noqa: F811
    start_worker: Start,  # noqa: F811
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROMPTMILL_DTYPE", "bfloat16")
    codes = []
    while unfinished(submitted):
        codes.append(supervise(start_worker("w@here", ("-c", FAULTY)), submitted))
    assert codes == [1, None]
    check_exactly_once(submitted, home / "images")
    rows = find(submitted.engine, Query(), limit=JOBS)
    assert {row.seed for row in rows if row.image_dtype == "float32"} == {seed for seed in range(JOBS) if seed % 8 == 3}
    log = (home.parent / "workers.log").read_text("utf-8")
    assert "going on with at most 4 rows" in log
    assert log.count(" is open after ") == 2


@pytest.fixture
def mixed(home_ledger: Ledger, broker: str, checkpoint_folder: Path) -> Ledger:  # noqa: F811
    """200 jobs: ten samplers, five step counts, a third without guidance; one size."""
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=200)
    batch_id = home_ledger.create_batch(new)
    jobs: list[Any] = []
    for i in range(200):
        kinds = {"sampler": SAMPLERS[i % 10], "steps": STEPS[i % 7 % 5], "scale": SCALES[i % 3]}
        where = {"model": str(checkpoint_folder), "width": 32, "height": 32}
        jobs.append(job(batch_id, chunk=i // 16, seed=i, **kinds, **where))
    home_ledger.add_jobs(jobs)
    home_ledger.open_batch(batch_id)
    outbox.send_batch(create_app(broker), home_ledger.engine, batch_id)
    return home_ledger


def test_a_mixed_queue_fills_the_rows_until_its_tail(mixed: Ledger, start_worker: Start, home: Path) -> None:  # noqa: F811
    worker = start_worker("w@here")
    wait_until(lambda: succeeded(mixed) == 200, 240)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    log = (home.parent / "workers.log").read_text("utf-8")
    (share,) = re.findall(r"([\d.]+)% before the last image was begun", log)
    assert float(share) >= 95
