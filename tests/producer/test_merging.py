"""`promptmill db merge`: another home's batches and images come here, and that home stays as it is."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from sqlalchemy import select, update

from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from db.models import BATCHES, IMAGES, JOBS, Batch, Image, Job
from db.reading import read
from producer.merging import Merge
from tests.db.conftest import IMAGE, job
from worker.images import image_name, save_image

Call = Callable[..., Result]
COUNT = 3


@pytest.fixture
def other(home: Path, tmp_path: Path) -> Iterator[Ledger]:  # noqa: ARG001 - settings of its own come first
    """Another home, with a batch of three images and one that waits."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/other/ledger.sqlite3")
    fill(ledger, tmp_path / "other" / "images")
    yield ledger
    ledger.engine.dispose()


@pytest.fixture
def full(promptmill: Call, other: Ledger, home: Path) -> Call:  # noqa: ARG001 - it is to be there
    """The command, in a home with a batch of the same name."""
    ledger = open_ledger(f"sqlite:///{home}/ledger.sqlite3")
    fill(ledger, home / "images", seed=100)
    ledger.engine.dispose()
    return promptmill


def fill(ledger: Ledger, root: Path, seed: int = 0) -> None:
    new = NewBatch(name="cats.csv", slug="cats", source_sha256="0" * 64, image_format="png", total=COUNT + 1)
    batch_id = ledger.create_batch(new)
    rows = [job(batch_id, line=line, seed=seed + line, width=8, height=8) for line in range(COUNT + 1)]
    ledger.add_jobs(rows)
    ledger.open_batch(batch_id)
    for claim in ledger.start_jobs(range(1, COUNT + 1), "w", 60):
        path = f"0001-cats/{image_name(claim.job_id, seed + claim.job_id - 1, 'png')}"
        pixels = np.random.default_rng(seed + claim.job_id).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        saved = save_image(pixels, root / path, metadata=None)
        facts = {"sha256": saved.sha256, "bytes": saved.bytes, "width": 8, "height": 8, "path": path}
        ledger.finish_job(claim, {**IMAGE, **facts})


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("images/*/*"))


def test_batches_come_with_their_images(full: Call, tmp_path: Path, home: Path) -> None:
    done = full("db", "merge", tmp_path / "other")
    assert (done.exit_code, done.output.splitlines()) == (
        0,
        [
            "Batch 1 (cats.csv) merged as batch 2: 4 jobs, 3 images.",
            "1 batches merged, 0 here already: 4 jobs, 3 images (3 linked, 0 copied, 0 missing or damaged).",
            "1 jobs wait, and are made here from now on: have no worker make them there.",
        ],
    )
    names = [path.relative_to(home / "images").as_posix() for path in images(home)]
    assert names[3:] == ["0002-cats/00000005-0.png", "0002-cats/00000006-1.png", "0002-cats/00000007-2.png"]
    checked = full("fsck", "--deep")
    assert checked.exit_code == 0, checked.output
    assert full("history", "red", "state:succeeded", "--limit", 0, "--json").stdout.count("\n") == 6


def test_a_second_merge_changes_nothing(full: Call, tmp_path: Path, home: Path) -> None:
    full("db", "merge", tmp_path / "other")
    before = full("history", "--limit", 0, "--json").stdout, images(home)
    again = full("db", "merge", tmp_path / "other")
    assert "Batch 1 (cats.csv) is here already, as batch 2." in again.output
    assert (again.exit_code, (full("history", "--limit", 0, "--json").stdout, images(home))) == (0, before)


def test_the_other_home_stays_as_it_is(full: Call, tmp_path: Path, other: Ledger) -> None:
    other.engine.dispose()
    before = {path: path.read_bytes() for path in files(tmp_path / "other")}
    full("db", "merge", tmp_path / "other")
    assert {path: path.read_bytes() for path in files(tmp_path / "other")} == before


def files(folder: Path) -> list[Path]:
    """All but what SQLite keeps beside a ledger while it is read."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal"))]


def test_a_dry_run_says_what_would_come(full: Call, tmp_path: Path, home: Path) -> None:
    done = full("db", "merge", tmp_path / "other" / "ledger.sqlite3", "--dry-run")
    assert "Batch 1 (cats.csv) to come: 4 jobs, 3 images.\n1 batches to come" in done.output
    assert (done.exit_code, len(images(home))) == (0, 3)
    assert full("status", 2).exit_code == 1


def test_images_are_copied_to_another_disk(
    full: Call, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert "(0 linked, 3 copied, 0 missing or damaged)" in full("db", "merge", tmp_path / "other").output
    theirs, ours = images(tmp_path / "other"), images(home)[3:]
    assert [path.read_bytes() for path in theirs] == [path.read_bytes() for path in ours]


def test_a_missing_and_a_damaged_file_are_told_and_their_rows_come(full: Call, tmp_path: Path) -> None:
    missing, damaged, _ = images(tmp_path / "other")
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:99])
    done = full("db", "merge", tmp_path / "other")
    assert (done.exit_code, done.stderr.count("is not as the other ledger says")) == (1, 2)
    assert "4 jobs, 3 images (2 linked, 0 copied, 2 missing or damaged)" in done.output
    checked = full("fsck").output
    assert "missing" in checked
    assert "truncated" in checked


def test_paths_that_lead_elsewhere_are_not_followed(full: Call, tmp_path: Path, home: Path, other: Ledger) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "other" / "images" / "0001-cats" / "link.png").symlink_to(tmp_path / "secret.png")
    paths = ["../secret.png", f"{tmp_path}/secret.png", "0001-cats/link.png"]
    with other.engine.begin() as connection:
        connection.execute(update(BATCHES).values(folder="../../evil/../x"))
        for job_id, path in enumerate(paths, 1):
            connection.execute(update(IMAGES).where(Image.job_id == job_id).values(path=path))
    assert full("db", "merge", tmp_path / "other").exit_code == 1
    assert [path.name for path in (home / "images").iterdir() if path.is_dir()] == ["0001-cats", "0002-evil-x"]
    assert not list((home / "images" / "0002-evil-x").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "There is no nowhere"),
        (["postgresql://db.example/x"], "--images DIR"),
        (["no url://x"], "no URL of a database"),
    ],
)
def test_a_place_where_no_ledger_is_is_bad_usage(promptmill: Call, words: list[str], said: str) -> None:
    done = promptmill("db", "merge", *words)
    assert done.exit_code == 2
    assert said in done.output


class Killed(BaseException):
    """What is raised where a process dies."""


def test_a_merge_that_died_is_begun_again(
    full: Call, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patches, suppress(Killed):
        patches.setattr("db.merging.open_merged", die)
        patches.setattr("producer.merging.discard", die)
        full("db", "merge", tmp_path / "other")
    assert len(images(home)) == 6
    assert full("db", "merge", tmp_path / "other").exit_code == 0
    assert (len(images(home)), full("fsck", "--deep").exit_code) == (6, 0)


def test_fsck_discards_what_a_dead_merge_left(
    full: Call, tmp_path: Path, home: Path, home_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.merging.open_merged", lambda *_: None)
    full("db", "merge", tmp_path / "other")
    with home_ledger.engine.begin() as connection:
        connection.execute(update(BATCHES).where(Batch.id == 2).values(created_at=1.0))
    assert "discarded" in full("fsck", "--repair").output
    assert (len(read(home_ledger.engine, select(Job.id))), len(images(home))) == (4, 3)


def test_a_batch_that_is_removed_while_it_comes_is_told(
    full: Call, tmp_path: Path, home: Path, home_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Merge._fetch

    def lose(self: Merge, *given: Any) -> None:
        home_ledger.discard_batch(2)
        fetch(self, *given)

    monkeypatch.setattr(Merge, "_fetch", lose)
    done = full("db", "merge", tmp_path / "other")
    assert (done.exit_code, "removed meanwhile: merge again" in done.output) == (1, True)
    assert (len(read(home_ledger.engine, select(BATCHES))), len(images(home))) == (1, 3)


def test_a_folder_that_is_there_is_nobodys(full: Call, tmp_path: Path, home: Path) -> None:
    theirs = home / "images" / "0002-cats" / "00000005-0.png"
    theirs.parent.mkdir()
    theirs.write_bytes(b"of another ledger")
    assert full("db", "merge", tmp_path / "other").exit_code == 0
    assert (theirs.read_bytes(), len(images(home)), full("fsck").exit_code) == (b"of another ledger", 7, 0)


def test_two_merges_do_not_go_on_at_once(full: Call, tmp_path: Path, home: Path) -> None:
    with (home / "images" / ".merging").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = full("db", "merge", tmp_path / "other")
    assert (done.exit_code, "wait until it has ended" in done.output) == (1, True)


def test_a_full_disk_leaves_nothing_of_a_batch(
    full: Call, tmp_path: Path, home: Path, home_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("producer.merging._link", refuse)
    done = full("db", "merge", tmp_path / "other")
    assert (done.exit_code, "No space left on device" in done.output) == (1, True)
    assert (len(read(home_ledger.engine, select(JOBS))), len(list(home.glob("images/*/")))) == (4, 1)
