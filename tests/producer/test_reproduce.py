"""Verdicts on images that were made again, and the reasons beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from db.ledger import Ledger, NewBatch
from producer.reproduce import Target, _free_name
from producer.verdict import Made, Verdict, judge, summary
from tests.db.conftest import job
from worker.images import save_image

Command = Callable[..., Result]
MADE = {"device": "cpu", "dtype": "float32", "checkpoint_hash": "a" * 64, "batch_rows": 8, "vae_batch": 4,
        "exact": True, "versions": {"torch": "2.13.0", "sampling": "tables"}}  # fmt: skip


def verdict(found: dict[str, Any], *, flaw: str = "", file: Path | None = Path("1.png"), **made: Any) -> Verdict:
    there = Made({**MADE, **made}, "1" * 64, file, flaw)
    return judge("job 1", there, {"made": MADE, "sha256": "2" * 64, **found})


def test_the_same_hash_is_identical_and_what_differs_is_still_said() -> None:
    found = verdict({"sha256": "1" * 64}, device="NVIDIA H100")
    assert (found.verdict, found.reasons) == ("identical", ["device: NVIDIA H100, now cpu"])


@pytest.mark.parametrize(("psnr", "word"), [(29.9, "different"), (30.0, "near"), (None, "different")])
def test_thirty_decibels_tell_near_from_different(psnr: float | None, word: str) -> None:
    assert verdict({"psnr": psnr}).verdict == word


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"device": "NVIDIA H100"}, "device: NVIDIA H100, now cpu"),
        ({"dtype": "float16"}, "number format: float16, now float32"),
        ({"batch_rows": 16}, "rows of a UNet call: 16, now 8"),
        ({"checkpoint_hash": "b" * 64}, "checkpoint: bbbbbbbbbbbb, now aaaaaaaaaaaa"),
        ({"versions": {"torch": "2.12.0"}}, "torch: 2.12.0, now 2.13.0"),
        ({"versions": {"compiled": True}}, "compiled: yes, now no"),
        ({"versions": {}, "vae_batch": None}, "not recorded: images of a VAE call, torch, sampling"),
        ({"versions": "x"}, "not recorded: torch, sampling"),
        ({"flagged": "unsafe"}, "hidden in another way"),
        ({}, "nothing that is recorded differs"),
    ],
)
def test_what_is_not_as_it_was_is_a_reason(made: dict[str, Any], said: str) -> None:
    assert said in "; ".join(verdict({"psnr": 40.0}, **made).reasons)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": None}, "no file to see by how much"),
        ({"flaw": "its file is truncated"}, "its file is truncated"),
        ({"versions": {"init_image": "c" * 64}}, "init image is not what it was"),
    ],
)
def test_what_cannot_be_compared_is_no_difference(changes: dict[str, Any], said: str) -> None:
    found = verdict({"psnr": 12.0}, **changes)
    assert (found.verdict, said in "; ".join(found.reasons)) == ("impossible", True)


def test_a_lossy_file_alone_is_compared_as_it_is_saved() -> None:
    there = Made(MADE, None, Path("1.jpg"))
    assert judge("1.jpg", there, {"made": MADE, "sha256": "2" * 64, "alike": True}).verdict == "identical"


def test_an_error_makes_it_impossible() -> None:
    said = "The init image is gone."
    assert verdict({"error": said}) == Verdict("job 1", "impossible", None, [said])


def test_the_summary_names_the_lowest_of_the_near_ones() -> None:
    near = [Verdict("a", "near", 41.2, []), Verdict("b", "near", 60.0, []), Verdict("c", "identical", None, [])]
    assert summary(near) == "1 identical, 2 near (at least 41.2 dB), 0 different"
    assert summary(near[:1]) == "0 identical, 1 near (41.2 dB), 0 different"
    assert summary([Verdict("d", "impossible", None, ["x"])]).endswith(", 1 impossible")


def test_a_job_without_an_image_is_refused(promptmill: Command, home_ledger: Ledger) -> None:
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=1)
    home_ledger.add_jobs([job(home_ledger.create_batch(new))])
    result = promptmill("reproduce", "1")
    assert (result.exit_code, "no image to compare with: it is queued" in result.output) == (2, True)


@pytest.mark.usefixtures("home_ledger")
@pytest.mark.parametrize("words", [(), ("77",), ("nowhere.png",), ("--query", "nothing"), ("--query", "steps:x")])
def test_what_is_not_there_is_bad_usage(promptmill: Command, words: tuple[str, ...]) -> None:
    assert promptmill("reproduce", *words).exit_code == 2


def test_a_picture_that_says_nothing_of_us_is_refused(promptmill: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_image(np.zeros((8, 8, 3), np.uint8), path, metadata=None)
    result = promptmill("reproduce", path)
    assert result.exit_code == 2
    assert "does not say how Promptmill made it" in result.output


def test_a_record_that_cannot_be_made_is_a_verdict(promptmill: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    record = {**job(1, init_image="/nowhere/cat.png"), "checkpoint_hash": "0" * 64}
    save_image(np.zeros((8, 8, 3), np.uint8), path, metadata=record)
    result = promptmill("reproduce", path, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["verdict"]) == (1, "impossible"), result.output
    assert "/nowhere/cat.png" in found["reasons"][0]


def test_a_kept_picture_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    target = Target("job 1", {}, Made(MADE, None, Path("images/a.png")))
    taken: set[str] = set()
    names = [Path(_free_name(tmp_path, target, taken)).name for _ in range(2)]
    assert names == ["a-2.png", "a-3.png"]
