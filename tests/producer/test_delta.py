"""An edited file, submitted again: what is queued, and what is said of the rest."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import text

from configs.settings import get_settings
from db import queries
from db.ledger import Ledger
from producer.contents import Contents
from producer.delta import Delta, compare
from producer.digests import Digests
from producer.submit import check, record

pytestmark = pytest.mark.usefixtures("home")
IMAGE = {
    "sha256": "0" * 64, "width": 128, "height": 128, "bytes": 5000, "seconds": 2.0, "worker": "w", "device": "cpu",
    "dtype": "float32", "batch_rows": 2, "versions": {},
}  # fmt: skip
ROWS = ["cat,1", "dog,2", "fox,3", "owl,4", "bee,5"]


def write(rows: list[str], header: str = "prompt,seed", name: str = "prompts.csv") -> str:
    Path(name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return name


def submit(ledger: Ledger, rows: list[str], **flags: Any) -> None:
    record(check(write(rows), get_settings(), **flags), ledger)


def find(ledger: Ledger, rows: list[str], *, once: bool = False, **flags: Any) -> Delta:
    return compare(check(write(rows), get_settings(), **flags), ledger, get_settings(), once=once)


def finish_all(ledger: Ledger, **made: Any) -> list[Path]:
    """Let every queued job have an image, of a few bytes."""
    paths = []
    for claim in ledger.start_jobs(range(1, 100), "w", 60):
        path = get_settings().images_root / "0001-prompts" / f"{claim.job_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
        image = {**IMAGE, "checkpoint_hash": Contents().weights("demo"), "path": f"0001-prompts/{path.name}", **made}
        assert ledger.finish_job(claim, image)
        paths.append(path)
    return paths


def lines(delta: Delta) -> dict[str, list[int]]:
    return {kind: [edit.line for edit in edits] for kind, edits in delta.edits.items() if edits}


def test_a_file_that_was_never_submitted_is_all_new(home_ledger: Ledger) -> None:
    delta = find(home_ledger, ROWS)
    assert (lines(delta), delta.unchanged, delta.submission.batch.total) == ({"new": [2, 3, 4, 5, 6]}, 0, 5)


def test_an_edited_row_a_new_one_and_one_that_is_gone_are_told_apart(home_ledger: Ledger) -> None:
    submit(home_ledger, ROWS)
    delta = find(home_ledger, ["cat,1", "wolf,2", "owl,4", "bee,5", "ant,6"])
    assert lines(delta) == {"new": [6], "changed": [3], "gone": [4]}
    assert (delta.unchanged, delta.submission.batch.total) == (3, 2)


def test_rows_that_only_move_are_unchanged(home_ledger: Ledger) -> None:
    submit(home_ledger, ROWS)
    assert lines(find(home_ledger, [*reversed(ROWS)])) == {}


def test_only_what_is_not_there_becomes_a_job(promptmill: Callable[..., Result], home_ledger: Ledger) -> None:
    promptmill("submit", write(ROWS))
    done = promptmill("submit", write([*ROWS[:4], "bee,9"]), "--changed")
    assert "5 rows: 4 unchanged, 0 new, 1 changed, 0 unmade, 0 gone." in done.stdout
    assert "changed  line 6: seed 5 → 9" in done.stdout
    assert [batch.total for batch in queries.batches(home_ledger.engine)] == [1, 5]


def test_with_nothing_to_do_it_says_so_and_makes_no_batch(
    promptmill: Callable[..., Result], home_ledger: Ledger
) -> None:
    promptmill("submit", write(ROWS))
    done = promptmill("submit", write(ROWS), "--changed")
    assert (done.exit_code, "Nothing is queued" in done.stdout) == (0, True)
    assert len(queries.batches(home_ledger.engine)) == 1


def test_after_some_rows_were_queued_the_whole_file_is_still_compared_with(promptmill: Callable[..., Result]) -> None:
    promptmill("submit", write(ROWS))
    promptmill("submit", write([*ROWS, "ant,6"]), "--changed")
    found = json.loads(promptmill("submit", write([*ROWS[1:], "ant,6"]), "--changed", "--json").stdout)
    assert (found["gone"], found["new"], found["unchanged"]) == ([2], [], 5)
    again = json.loads(promptmill("submit", write([*ROWS[1:], "ant,6"]), "--changed", "--json").stdout)
    assert again["gone"] == []


def test_rows_without_a_seed_want_an_image_each(home_ledger: Ledger) -> None:
    submit(home_ledger, ["cat,", "cat,"])
    assert lines(find(home_ledger, ["cat,", "cat,"])) == {}
    assert lines(find(home_ledger, ["cat,", "cat,", "cat,"])) == {"new": [4]}
    assert lines(find(home_ledger, ["cat,", "cat,", "cat,"], once=True)) == {}


def test_more_images_of_a_row_are_made_beside_those_there_are(home_ledger: Ledger) -> None:
    submit(home_ledger, ["cat,7"], num_images=2)
    delta = find(home_ledger, ["cat,7"], num_images=5)
    assert (lines(delta), delta.submission.batch.total) == ({"changed": [2]}, 3)
    record(delta.submission, home_ledger)
    with home_ledger.engine.connect() as connection:
        rows = connection.execute(text("SELECT image_index, seed FROM job ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [(0, 7), (1, 8), (2, 9), (3, 10), (4, 11)]


def test_a_job_that_failed_is_asked_for_again(home_ledger: Ledger) -> None:
    submit(home_ledger, ROWS)
    home_ledger.cancel_batch(1)
    delta = find(home_ledger, ROWS)
    assert lines(delta) == {"unmade": [2, 3, 4, 5, 6]}
    assert {edit.note for edit in delta.edits["unmade"]} == {"it was cancelled"}


def test_an_image_whose_file_is_gone_is_not_there(home_ledger: Ledger) -> None:
    submit(home_ledger, ROWS)
    paths = finish_all(home_ledger)
    assert lines(find(home_ledger, ROWS)) == {}
    paths[2].unlink()
    assert lines(find(home_ledger, ROWS)) == {"unmade": [4]}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"weights")
    return path


def test_a_replaced_checkpoint_makes_all_its_rows_anew(home_ledger: Ledger, checkpoint: Path) -> None:
    submit(home_ledger, ROWS, model=str(checkpoint))
    assert lines(find(home_ledger, ROWS, model=str(checkpoint))) == {}
    checkpoint.write_bytes(b"WEIGHTS")
    assert lines(find(home_ledger, ROWS, model=str(checkpoint))) == {"changed": [2, 3, 4, 5, 6]}


def test_a_moved_checkpoint_changes_nothing(home_ledger: Ledger, checkpoint: Path) -> None:
    submit(home_ledger, ROWS, model=str(checkpoint))
    moved = checkpoint.rename(checkpoint.with_name("b.safetensors"))
    assert lines(find(home_ledger, ROWS, model=str(moved))) == {}


def test_a_picture_counts_by_what_it_shows(home_ledger: Ledger, picture: Path) -> None:
    submit(home_ledger, ROWS[:1], init_image=str(picture))
    copy = picture.with_name("copy.png")
    copy.write_bytes(picture.read_bytes())
    assert lines(find(home_ledger, ROWS[:1], init_image=str(copy))) == {}
    picture.write_bytes(picture.read_bytes() + b"more")
    assert lines(find(home_ledger, ROWS[:1], init_image=str(picture))) == {"changed": [2]}


def test_what_was_read_once_is_known(tmp_path: Path) -> None:
    path, digests = tmp_path / "a.bin", Digests(tmp_path / "digests.sqlite3")
    path.write_bytes(b"a")
    os.utime(path, (time.time() - 100,) * 2)
    first = digests.of([path])
    path.write_bytes(b"b")
    assert digests.of([path]) != first


@pytest.mark.parametrize(("more", "images"), [([], 5), (["cat,1", "cat,1"], 5), (["cat,", "cat,"], 6)])
def test_once_makes_the_first_of_identical_rows(
    promptmill: Callable[..., Result], home_ledger: Ledger, more: list[str], images: int
) -> None:
    assert promptmill("submit", write([*ROWS, *more]), "--once").exit_code == 0
    assert queries.batches(home_ledger.engine)[0].total == images


def test_rows_that_repeat_others_are_told_with_their_lines(promptmill: Callable[..., Result]) -> None:
    said = promptmill("submit", write(["cat,1", "dog,", "cat,1", "dog,"])).stderr
    assert "prompts.csv:4: asks for the same images as line 2" in said
    assert "become other images: 5;" in said


def test_tags_make_no_other_row(promptmill: Callable[..., Result]) -> None:
    promptmill("submit", write(["cat,1,a"], "prompt,seed,note"))
    assert "Nothing is queued" in promptmill("submit", write(["cat,1,b"], "prompt,seed,note"), "--changed").stdout


def test_an_image_of_another_checkpoint_is_not_there(home_ledger: Ledger) -> None:
    submit(home_ledger, ROWS)
    finish_all(home_ledger, checkpoint_hash="0" * 64)
    assert lines(find(home_ledger, ROWS)) == {"unmade": [2, 3, 4, 5, 6]}


def plan(promptmill: Callable[..., Result], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(promptmill("submit", *words, "--plan", "--json").stdout)["plan"]
    return found


def test_a_plan_counts_and_queues_nothing(promptmill: Callable[..., Result], home_ledger: Ledger) -> None:
    found = plan(promptmill, write(["cat,1,64x64", "dog,2,128x64", "cat,1,64x64"], "prompt,seed,size"))
    assert (found["rows"], found["images"], found["repeated"]) == (3, 3, 1)
    assert found["sizes"] == {"64x64": 2, "128x64": 1}
    assert (found["seconds"], sum(found["unmeasured"].values()), found["estimated"]) == (None, 3, 3)
    assert not queries.batches(home_ledger.engine)


def test_a_plan_takes_time_and_bytes_from_what_was_measured(
    promptmill: Callable[..., Result], home_ledger: Ledger
) -> None:
    submit(home_ledger, ROWS, steps=10)
    finish_all(home_ledger)
    found = plan(promptmill, write([f"ant,{number}" for number in range(100)]), "--steps", "20")
    assert (found["bytes_needed"], found["estimated"], found["unmeasured"]) == (500_000, 0, {})
    fastest, slowest = found["seconds"]
    # Five images of ten steps shared two seconds.
    assert fastest < 100 * 2 * (2 / 5) < slowest


def test_what_does_not_fit_is_asked_for_or_refused(
    promptmill: Callable[..., Result], home: Path, home_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    monkeypatch.setenv("PROMPTMILL_DISK_WATERMARK_MB", str(10**9))
    refused = promptmill("submit", write(ROWS))
    assert (refused.exit_code, "go on all the same with --yes" in refused.stderr) == (2, True)
    assert promptmill("submit", write(ROWS), "--yes").exit_code == 0
    assert len(queries.batches(home_ledger.engine)) == 1


def test_a_switch_is_counted_where_the_checkpoint_changes(promptmill: Callable[..., Result], checkpoint: Path) -> None:
    rows = ["cat,demo", f"dog,{checkpoint}", "fox,demo"]
    assert plan(promptmill, write(rows, "prompt,model"))["switches"] == 2
