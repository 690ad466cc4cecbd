"""What is pruned is gone, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import select

from configs.settings import get_settings
from db.ledger import Ledger, NewBatch
from db.models import BATCHES, IMAGES, JOBS
from db.reading import read
from db.search import Query
from producer import prune
from producer.fsck import Inspection
from producer.history import find_jobs
from producer.prune import Pruning
from producer.query import parse
from tests.db.conftest import IMAGE, job

Command = Callable[..., Result]


@pytest.fixture
def images(home_ledger: Ledger) -> Path:
    """The images' folder of a ledger with two jobs that succeeded, one that runs and one that is queued."""
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=4)
    batch_id = home_ledger.create_batch(new)
    home_ledger.add_jobs([job(batch_id, prompt=prompt) for prompt in ("a cat", "a dog", "a cat", "a cat")])
    home_ledger.open_batch(batch_id)
    root = get_settings().images_root
    (root / "0001-x").mkdir(parents=True)
    for claim in home_ledger.start_jobs([1, 2, 3], "w", 60)[:2]:
        path = f"0001-x/{claim.job_id:08d}-1.png"
        (root / path).write_bytes(b"0123456789")
        home_ledger.finish_job(claim, {**IMAGE, "path": path})
    return root


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.png"))


def findings(ledger: Ledger, root: Path) -> list[str]:
    return [found.kind for found in Inspection(engine=ledger.engine, root=root).findings()]


def test_a_dry_run_takes_nothing(promptmill: Command, images: Path) -> None:
    result = promptmill("history", "prune", "cat", "--dry-run")
    assert result.output == "1 jobs, 1 image files, 0.0 MB. 2 queued or running are left.\n"
    assert len(files(images)) == 2


def test_what_has_ended_is_taken_and_the_rest_is_sound(promptmill: Command, home_ledger: Ledger, images: Path) -> None:
    assert "Deleted 1 jobs, 1 files" in promptmill("history", "prune", "cat", "--yes").output
    assert files(images) == ["00000002-1.png"]
    assert [row.id for row in find_jobs(home_ledger.engine, Query())] == [4, 3, 2]
    assert findings(home_ledger, images) == ["truncated"]


def test_without_a_yes_nothing_is_taken(promptmill: Command, images: Path) -> None:
    assert promptmill("history", "prune", "cat", text="n\n").exit_code == 1
    assert len(files(images)) == 2


def test_everything_must_be_asked_for(promptmill: Command, images: Path) -> None:
    assert promptmill("history", "prune", "--yes").exit_code == 2
    assert len(files(images)) == 2


def test_young_jobs_stay(promptmill: Command, images: Path) -> None:
    assert promptmill("history", "prune", "--older-than", 1, "--yes").output.startswith("0 jobs")
    assert len(files(images)) == 2


def test_an_empty_batch_goes_with_its_folder(promptmill: Command, home_ledger: Ledger, images: Path) -> None:
    home_ledger.rescue_jobs(3, worker="w")
    home_ledger.cancel_batch(1)
    promptmill("history", "prune", "--batch", 1, "--yes")
    assert [read(home_ledger.engine, select(table)) for table in (BATCHES, JOBS, IMAGES)] == [[], [], []]
    assert list(images.iterdir()) == []


def test_a_crash_in_between_leaves_what_fsck_names(
    home_ledger: Ledger, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prune.Pruning, "_remove_file", crash)
    with pytest.raises(KeyboardInterrupt):
        Pruning(home_ledger.engine, images).take(list(find_jobs(home_ledger.engine, parse("dog", 0))))
    assert "orphan" in findings(home_ledger, images)


@pytest.mark.usefixtures("images")
def test_a_word_is_left_out_by_a_dash(promptmill: Command) -> None:
    result = promptmill("history", "prune", "-dog", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "1 job" in result.output
