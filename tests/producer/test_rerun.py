"""What is made again is what was made, but for what is set."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from sqlalchemy import select

from configs.settings import get_settings
from db.ledger import Ledger, NewBatch
from db.models import BATCHES, JOBS, Job
from tests.db.conftest import IMAGE, job
from worker.images import save_image

Command = Callable[..., Result]
DRAW = {"seed": 7, "draw": 1, "row": 0, "rows": 2}
NOISE = {"source": "compvis", "start": DRAW}
OLD = {"prompt": "a castle", "seed": 2**40, "line": 3, "image_index": 2, "weights": True, "precision": "float32",
       "tags": {"Category": "Places"}, "noise": NOISE, "template": {"mode": "random"}}  # fmt: skip
ASKED = [c.name for c in JOBS.columns if c.name not in ("id", "batch_id", "content_key")]


@pytest.fixture
def old(home_ledger: Ledger) -> int:
    """A batch of two jobs; the number of the first."""
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=2)
    batch_id = home_ledger.create_batch(new)
    home_ledger.add_jobs([job(batch_id, **OLD), job(batch_id, **{**OLD, "prompt": "a dog", "noise": None})])
    home_ledger.open_batch(batch_id)
    return 1


def jobs(ledger: Ledger, batch: int) -> list[dict[str, Any]]:
    with ledger.engine.connect() as connection:
        found = connection.execute(select(JOBS).where(Job.batch_id == batch).order_by(Job.id)).mappings()
        return [{name: row[name] for name in ASKED} for row in found]


def batches(ledger: Ledger) -> int:
    with ledger.engine.connect() as connection:
        return len(connection.execute(select(BATCHES)).all())


def test_jobs_made_again_are_what_they_were(promptmill: Command, home_ledger: Ledger, old: int) -> None:
    result = promptmill("rerun", old, 2, "--submit", "--name", "again")
    assert result.exit_code == 0, result.output
    assert jobs(home_ledger, 2) == jobs(home_ledger, 1)
    with home_ledger.engine.connect() as connection:
        keys = connection.scalars(select(Job.content_key).where(Job.batch_id == 2)).all()
    assert None not in keys
    assert len(set(keys)) == 2


def test_what_is_set_is_all_that_changes(promptmill: Command, home_ledger: Ledger, old: int) -> None:
    promptmill("rerun", old, "--set", "ddim_steps=40", "--set", "size=64x128", "--submit")
    expected = {**jobs(home_ledger, 1)[0], "steps": 40, "width": 64}
    assert jobs(home_ledger, 2) == [expected]


@pytest.mark.parametrize("seed", ["5", "random"])
def test_another_seed_is_another_image_with_noise_of_its_own(
    promptmill: Command, home_ledger: Ledger, old: int, seed: str
) -> None:
    promptmill("rerun", old, "--set", f"seed={seed}", "--submit")
    before, (after,) = jobs(home_ledger, 1)[0], jobs(home_ledger, 2)
    assert after["seed"] == 5 if seed == "5" else after["seed"] != before["seed"]
    assert after == {**before, "seed": after["seed"], "noise": None}


def test_a_query_finds_what_is_made_again(promptmill: Command, home_ledger: Ledger, old: int) -> None:
    assert promptmill("rerun", "--query", "steps:x", "--submit").exit_code == 2
    assert promptmill("rerun", "--query", "castle", "--submit").exit_code == 0
    assert jobs(home_ledger, 2) == jobs(home_ledger, 1)[:old]


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["1", "--set", "stepz=4"], "did you mean steps"),
        (["1", "--set", "steps=0"], "from 1 to 1000"),
        (["1", "--set", "steps"], "NAME=VALUE"),
        (["1", "--set", "w=64", "--set", "size=64x64"], "a second time"),
        (["1", "--set", "mask_image=README.md"], "README.md"),
        (["1", "--set", "eta=0.5"], "seed=N or random"),
        (["1", "99"], "no job 99"),
        ([], "Say what"),
    ],
)
def test_what_is_wrong_records_nothing(
    promptmill: Command, home_ledger: Ledger, old: int, words: list[str], allowed: str
) -> None:
    result = promptmill("rerun", *words, "--submit")
    assert (result.exit_code, batches(home_ledger)) == (2, old), result.output
    assert allowed in result.output


def test_an_image_the_ledger_does_not_know_speaks_for_itself(
    promptmill: Command, home_ledger: Ledger, tmp_path: Path
) -> None:
    record = {**job(1, **OLD), "job": 77, "checkpoint_hash": "0" * 64}
    path = save_image(np.zeros((128, 128, 3), dtype=np.uint8), tmp_path / "x.png", metadata=record).path
    result = promptmill("rerun", path, "--submit")
    assert result.exit_code == 0, result.output
    assert "its own record is taken" in result.output
    (made,) = jobs(home_ledger, 1)
    assert {name: made[name] for name in OLD} == OLD


@pytest.mark.parametrize(
    "start", [{"rows": 10**12}, {"row": 2}, {"row": -1}, {"draw": -1}, {"draw": 2**70}, {"seed": "x"}]
)
def test_noise_that_no_run_draws_is_refused(
    promptmill: Command, home_ledger: Ledger, tmp_path: Path, start: dict[str, Any]
) -> None:
    noise = {"source": "compvis", "start": {**DRAW, **start}}
    record = {**job(1, **OLD), "noise": noise, "job": 77, "checkpoint_hash": "0" * 64}
    with patch("worker.images.write_infotext", return_value=""):
        path = save_image(np.zeros((128, 128, 3), dtype=np.uint8), tmp_path / "x.png", metadata=record).path
    result = promptmill("rerun", path, "--submit")
    assert (result.exit_code, batches(home_ledger)) == (2, 0), result.output
    assert "none that can be made again" in result.output


def test_an_image_without_a_record_is_refused(promptmill: Command, home_ledger: Ledger, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    assert promptmill("rerun", tmp_path / "x.png", "--submit").exit_code == 2
    assert batches(home_ledger) == 0


@pytest.mark.parametrize("moved", [False, True])
def test_the_ledger_is_believed_of_an_image_it_knows(
    promptmill: Command, home_ledger: Ledger, old: int, tmp_path: Path, moved: bool
) -> None:
    pixels = np.zeros((128, 128, 3), dtype=np.uint8)
    record = {**job(1, **OLD), "prompt": "edited", "job": old, "checkpoint_hash": "0" * 64}
    place = tmp_path / "x.png" if moved else get_settings().images_root / "x.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    path = save_image(pixels, place, metadata=record).path
    for claim in home_ledger.start_jobs([old], "w", 60):
        home_ledger.finish_job(claim, {**IMAGE, "path": "x.png", "sha256": sha256(pixels.tobytes()).hexdigest()})
    result = promptmill("rerun", path, "--submit")
    assert (result.exit_code, "own record" in result.output) == (0, False), result.output
    assert jobs(home_ledger, 2)[0]["prompt"] == OLD["prompt"]
