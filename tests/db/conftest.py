"""A ledger in SQLite, and one in PostgreSQL, and jobs to put in it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from db.ledger import Ledger, NewBatch
from db.models import Job


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    return any_ledger


def job(batch_id: int, **values: Any) -> dict[str, Any]:
    """A row of the job table; every value can be replaced."""
    defaults = {
        "batch_id": batch_id, "chunk": 0, "line": 1, "image_index": 0, "priority": 5, "prompt": "a red circle",
        "negative_prompt": "", "model": "demo", "sampler": "DDIM", "steps": 20, "scale": 7.5, "width": 128,
        "height": 128, "seed": 1, "init_image": None, "strength": 0.75, "eta": 0.0, "tags": {},
    }  # fmt: skip
    return {**defaults, **values}


IMAGE = {
    "path": "0001-cats/1.png", "sha256": "0" * 64, "width": 128, "height": 128, "bytes": 10, "seconds": 0.1,
    "worker": "w", "device": "cpu", "dtype": "float32", "batch_rows": 2, "checkpoint_hash": "0" * 64, "versions": {},
}  # fmt: skip


@pytest.fixture
def batch(ledger: Ledger) -> Callable[..., list[int]]:
    """Record and open a batch with one job for each dict of values; returns the jobs' ids."""

    def record(*jobs: dict[str, Any]) -> list[int]:
        new = NewBatch(name="cats.csv", slug="cats", source_sha256="0" * 64, image_format="png", total=len(jobs))
        batch_id = ledger.create_batch(new)
        ledger.add_jobs([job(batch_id, **values) for values in jobs])
        ledger.open_batch(batch_id)
        with ledger.engine.connect() as connection:
            return list(connection.scalars(select(Job.id).where(Job.batch_id == batch_id).order_by(Job.id)))

    return record
