"""What a check finds of everything that can be wrong, and what a repair makes of it."""

import json
import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from sqlalchemy import delete, insert, update

from db import queries
from db.ledger import Claim, Ledger, NewBatch
from db.models import BATCHES, IMAGES, JOBS, Batch, Job, JobState
from tests.db.conftest import IMAGE, job
from worker.images import image_name, save_image

Call = Callable[..., Result]
AN_HOUR_AGO = time.time() - 3600


class Mill:
    """A batch of six jobs with their images, and its folder."""

    def __init__(self, ledger: Ledger, root: Path, image_format: str = "png") -> None:
        self.ledger, self.format = ledger, image_format
        new = NewBatch(name="cats.csv", slug="cats", source_sha256="", image_format=image_format, total=6)
        self.batch = ledger.create_batch(new)
        ledger.add_jobs([job(self.batch, seed=number) for number in range(1, 7)])
        ledger.open_batch(self.batch)
        self.folder = root / "0001-cats"
        self.write(update(BATCHES).values(submitted_at=AN_HOUR_AGO))
        for number in range(1, 7):
            self.make(number)

    def make(self, number: int) -> None:
        """Do with a job what a worker does."""
        (claim,) = self.ledger.start_jobs([number], "w", 15)
        assert self.ledger.finish_job(claim, self.save(number))

    def save(self, number: int, **facts: Any) -> dict[str, Any]:
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        asked = {"prompt": "a cat", "sampler": "DDIM", "steps": 2, "scale": 1.0, "seed": number, "width": 64}
        run = {"height": 64, "model": "demo", "checkpoint_hash": "0" * 64, "worker": "w", "seconds": 0.1, "job": number}
        saved = save_image(pixels, self.path(number), metadata={**asked, **run, **facts})
        path = f"0001-cats/{saved.path.name}"
        return {**IMAGE, "path": path, "sha256": saved.sha256, "bytes": saved.bytes, "width": 64, "height": 64}

    def path(self, number: int) -> Path:
        return self.folder / image_name(number, number, self.format)

    def write(self, statement: Any) -> None:
        with self.ledger.engine.begin() as connection:
            connection.execute(statement)

    def state(self, number: int) -> JobState:
        found: JobState = queries.find_job(self.ledger.engine, number).state
        return found


@pytest.fixture
def mill(home: Path, home_ledger: Ledger) -> Mill:
    return Mill(home_ledger, home / "images")


Fsck = Callable[..., list[tuple[str, int | None]]]


@pytest.fixture
def fsck(promptmill: Call) -> Fsck:
    """The kinds of what is found, each with its job."""

    def call(*words: object) -> list[tuple[str, int | None]]:
        result = promptmill("fsck", "--json", *words)
        *found, summary = map(json.loads, result.stdout.splitlines())
        assert result.exit_code == (1 if found else 0)
        assert sum(summary["found"].values()) == len(found)
        return [(finding["kind"], finding["job"]) for finding in found]

    return call


def damage_nothing(_mill: Mill) -> None: ...


def remove(mill: Mill) -> None:
    mill.path(3).unlink()


def cut_off(mill: Mill) -> None:
    os.truncate(mill.path(3), mill.path(3).stat().st_size - 40)


def empty(mill: Mill) -> None:
    mill.path(3).write_bytes(b"")


def fill_with_zeros(mill: Mill) -> None:
    mill.path(3).write_bytes(bytes(mill.path(3).stat().st_size))


def draw_over(mill: Mill) -> None:
    Image.new("RGB", (64, 64), "red").save(mill.path(3))


def shrink(mill: Mill) -> None:
    Image.new("RGB", (8, 8), "red").save(mill.path(3))


def lead_astray(mill: Mill) -> None:
    mill.write(update(IMAGES).where(IMAGES.c.job_id == 3).values(path="../../../etc/passwd"))
    mill.path(3).unlink()


def lose_row(mill: Mill) -> None:
    mill.write(delete(IMAGES).where(IMAGES.c.job_id == 3))


DAMAGES = [
    (remove, "missing"), (cut_off, "truncated"), (empty, "truncated"), (fill_with_zeros, "truncated"),
    (draw_over, "altered"), (shrink, "altered"), (lead_astray, "missing"),
]  # fmt: skip


def test_a_sound_batch_is_sound(mill: Mill, fsck: Fsck) -> None:
    assert mill.state(1) is JobState.SUCCEEDED
    assert fsck() == fsck("cats.csv", "--deep", "--repair", "--age", 0) == []


@pytest.mark.parametrize(("damage", "kind"), DAMAGES)
def test_a_damaged_image_is_found_and_made_again(
    mill: Mill, fsck: Fsck, damage: Callable[[Mill], None], kind: str
) -> None:
    before = queries.find_job(mill.ledger.engine, 3)
    damage(mill)
    assert fsck() == [(kind, 3)]
    assert fsck("--repair") == [(kind, 3)]
    found = queries.find_job(mill.ledger.engine, 3)
    assert (found.state, found.image_path, found.attempts) == (JobState.QUEUED, None, 0)
    assert (found.seed, found.prompt, found.fence > before.fence) == (before.seed, before.prompt, True)
    mill.make(3)
    assert fsck("--deep") == []


def test_a_succeeded_job_without_an_image_is_made_again(mill: Mill, fsck: Fsck) -> None:
    lose_row(mill)
    assert fsck("--repair") == [("unrecorded", 3), ("orphan", 3)]
    assert mill.state(3) is JobState.QUEUED
    # The file is what the job's next attempt replaces.
    assert fsck() == []


def test_pixels_that_changed_in_a_file_of_the_same_size_are_found_by_the_deep_check(mill: Mill, fsck: Fsck) -> None:
    shutil.copy(mill.path(4), mill.path(3))
    mill.write(update(IMAGES).where(IMAGES.c.job_id == 3).values(bytes=mill.path(3).stat().st_size))
    assert fsck() == []
    assert fsck("--deep") == [("altered", 3)]


def test_a_picture_whose_text_was_edited_is_the_same_picture(mill: Mill, fsck: Fsck) -> None:
    mill.save(3, tags={"seen": "yes"})
    assert fsck() == []


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_a_late_result_of_a_job_is_its_image(home: Path, home_ledger: Ledger, fsck: Fsck, image_format: str) -> None:
    mill = Mill(home_ledger, home / "images", image_format)
    mill.save(3, worker="another worker")
    assert fsck("--deep") == []
    Image.new("RGB", (64, 64), "red").save(mill.path(3))
    assert fsck() == [("altered", 3)]


def test_an_image_of_a_job_that_has_not_succeeded_is_taken_out(mill: Mill, fsck: Fsck) -> None:
    mill.write(update(JOBS).where(Job.id == 3).values(state=JobState.QUEUED))
    assert fsck("--repair") == [("untimely", 3)]
    mill.make(3)
    assert fsck() == []


def test_a_stalled_job_is_put_back(mill: Mill, fsck: Fsck) -> None:
    mill.write(delete(IMAGES).where(IMAGES.c.job_id.in_([3, 4])))
    mill.write(update(JOBS).where(Job.id == 3).values(state=JobState.RUNNING, lease_until=AN_HOUR_AGO))
    mill.write(update(JOBS).where(Job.id == 4).values(state=JobState.RUNNING, lease_until=time.time() + 60))
    assert fsck("--repair") == [("stalled", 3)]
    assert [mill.state(3), mill.state(4)] == [JobState.QUEUED, JobState.RUNNING]


def test_a_file_of_no_image_is_named_and_left(mill: Mill, fsck: Fsck) -> None:
    names = ["00000001-99.png", "00000777-1.png", "notes.txt", "00000003-3.png.bak", "9" * 30 + "-1.png"]
    for name in names:
        (mill.folder / name).write_text("x")
    (mill.folder / ".hidden").write_text("x")
    (mill.folder / "folder").mkdir()
    assert {kind for kind, _ in fsck("--repair")} == {"orphan"}
    assert len(fsck()) == len(names)
    assert all((mill.folder / name).exists() for name in names)


def test_leftovers_of_killed_workers_are_removed_when_they_are_old(mill: Mill, fsck: Fsck) -> None:
    parts = [mill.folder / f".{mill.path(number).name}.0123abcd.part" for number in (1, 2, 3)]
    for part in parts:
        part.write_bytes(b"half")
    for part in parts[1:]:
        os.utime(part, (AN_HOUR_AGO, AN_HOUR_AGO))
    mill.write(update(JOBS).where(Job.id == 3).values(state=JobState.RUNNING, lease_until=time.time() + 60))
    mill.write(delete(IMAGES).where(IMAGES.c.job_id == 3))
    assert fsck("--repair") == [("temporary", 2)]
    assert [part.exists() for part in parts] == [True, False, True]
    assert fsck("--repair", "--age", 0) == [("temporary", 1)]


def test_a_batch_that_was_never_opened_is_discarded(mill: Mill, fsck: Fsck) -> None:
    new = NewBatch(name="cut.csv", slug="cut", source_sha256="", image_format="png", total=5)
    cut = mill.ledger.create_batch(new)
    mill.ledger.add_jobs([job(cut)])
    assert fsck("--repair") == []
    mill.write(update(BATCHES).where(Batch.id == cut).values(created_at=AN_HOUR_AGO))
    assert fsck("--repair") == [("unopened", None)]
    assert fsck() == []


def test_a_batch_that_lacks_jobs_is_told(mill: Mill, fsck: Fsck) -> None:
    mill.write(update(BATCHES).values(total=7))
    assert fsck("--repair") == fsck() == [("miscounted", None)]


def test_a_folder_that_leads_elsewhere_is_not_gone_into(mill: Mill, fsck: Fsck, tmp_path: Path) -> None:
    shutil.move(mill.folder, tmp_path / "elsewhere")
    mill.folder.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "stranger.png").write_text("x")
    assert fsck() == [("missing", number) for number in range(1, 7)]


def test_one_batch_is_looked_at_alone(mill: Mill, fsck: Fsck) -> None:
    new = NewBatch(name="dogs.csv", slug="dogs", source_sha256="", image_format="png", total=1)
    dogs = mill.ledger.create_batch(new)
    mill.ledger.add_jobs([job(dogs)])
    mill.ledger.open_batch(dogs)
    remove(mill)
    assert fsck("dogs.csv") == []
    assert fsck("cats.csv") == [("missing", 3)]


def test_a_job_that_changed_since_is_left_alone(mill: Mill) -> None:
    seen = Claim(3, queries.find_job(mill.ledger.engine, 3).fence)
    assert mill.ledger.remake_jobs([seen]) == [3]
    mill.make(3)
    assert mill.ledger.remake_jobs([seen]) == []
    assert mill.ledger.forget_images([seen]) == 0


def test_a_damaged_image_of_a_cancelled_batch_is_cancelled(mill: Mill, fsck: Fsck) -> None:
    mill.ledger.cancel_batch(mill.batch)
    remove(mill)
    assert fsck("--repair") == [("missing", 3)]
    assert mill.state(3) is JobState.CANCELLED


def test_people_are_told_what_was_found_and_what_to_do(mill: Mill, promptmill: Call) -> None:
    remove(mill)
    (mill.folder / "red \x1b[31m.txt").write_text("x")
    result = promptmill("fsck")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "missing     job 3         0001-cats/00000003-3.png: No such file or directory",
        "orphan      batch 1       0001-cats/red \\x1b[31m.txt",
        "1 missing: the file of an image is not there → --repair makes it again",
        "1 orphan: a file belongs to no image → look at it, and move or delete it yourself",
        "6 jobs, 6 images, 6 files; no queue runs: 2 findings",
    ]
    assert "1 missing: the file of an image is not there → 1 queued again" in promptmill("fsck", "--repair").stdout


def test_many_findings_are_told_in_short(mill: Mill, promptmill: Call) -> None:
    for number in range(20):
        (mill.folder / f"{number}.txt").write_text("x")
    assert promptmill("fsck").stdout.count("orphan ") == 11


def fill(mill: Mill, first: int, last: int) -> None:
    """Give the batch more jobs that have succeeded, all with the sixth one's picture."""
    ids, row = range(first, last + 1), {**mill.save(6), "created_at": 0.0}
    mill.ledger.add_jobs([{**job(mill.batch, seed=number), "id": number} for number in ids])
    rows = [{**row, "job_id": number, "path": f"0001-cats/{mill.path(number).name}"} for number in ids]
    with mill.ledger.engine.begin() as connection:
        connection.execute(insert(IMAGES), rows)
        connection.execute(update(JOBS).where(Job.id >= first).values(state=JobState.SUCCEEDED))
        connection.execute(update(BATCHES).values(total=last))
    for number in ids:
        os.link(mill.path(6), mill.path(number))


def peak(fsck: Fsck) -> int:
    """Bytes that a check takes at most."""
    tracemalloc.start()
    assert fsck() == []
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.slow
def test_the_memory_of_a_check_does_not_grow_with_the_ledger(mill: Mill, fsck: Fsck) -> None:
    fill(mill, 7, 4_000)
    small = peak(fsck)
    fill(mill, 4_001, 16_000)
    assert peak(fsck) < 1.3 * small
