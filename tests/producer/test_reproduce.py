"""Verdicts on images that were made again, and the reasons beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from db.ledger import Ledger, NewBatch
from producer.reproduce import Target, Verdict, judge, summary
from tests.db.conftest import job
from worker.images import save_image

Command = Callable[..., Result]
MADE = {"device": "cpu", "dtype": "float32", "checkpoint_hash": "a" * 64, "batch_rows": 8, "vae_batch": 4,
        "exact": True, "versions": {"torch": "2.13.0", "sampling": "tables"}}  # fmt: skip


def verdict(found: dict[str, Any], *, flaw: str = "", file: Path | None = Path("1.png"), **made: Any) -> Verdict:
    target = Target("job 1", {}, {**MADE, **made}, "1" * 64, file, flaw)
    return judge(target, {"made": MADE, "sha256": "2" * 64, **found})


def test_the_same_hash_is_identical_even_if_the_provenance_is_not() -> None:
    assert verdict({"sha256": "1" * 64}, device="NVIDIA H100").word == "identical"


@pytest.mark.parametrize(("psnr", "word"), [(29.9, "different"), (30.0, "near"), (None, "different")])
def test_thirty_decibels_tell_near_from_different(psnr: float | None, word: str) -> None:
    assert verdict({"psnr": psnr}).word == word


def test_everything_that_is_not_as_it_was_is_a_reason() -> None:
    found = verdict({"psnr": 40.0}, device="NVIDIA H100", batch_rows=16, versions={"torch": "2.12.0", "compiled": True},
                    exact=False, checkpoint_hash="b" * 64)  # fmt: skip
    reasons = "\n".join(found.reasons)
    for said in ("device: NVIDIA H100, now cpu", "rows of a UNet call: 16, now 8", "torch: 2.12.0, now 2.13.0",
                 "compiled: True, now none", "sampling: none, now tables", "exact mode",
                 "checkpoint: bbbbbbbbbbbb,"):  # fmt: skip
        assert said in reasons


def test_without_any_difference_the_reason_says_so() -> None:
    assert verdict({"psnr": 12.0}).reasons == ["nothing that is recorded differs"]


def test_an_error_makes_it_impossible() -> None:
    assert verdict({"error": "The init image is gone."}) == Verdict(
        "job 1", "impossible", None, ["The init image is gone."]
    )


def test_the_summary_names_the_lowest_of_the_near_ones() -> None:
    near = [Verdict("a", "near", 41.2, []), Verdict("b", "near", 60.0, []), Verdict("c", "identical", None, [])]
    assert summary(near) == "1 identical, 2 near (at least 41.2 dB), 0 different"
    assert summary([Verdict("d", "impossible", None, ["x"])]).endswith(", 1 impossible")


def test_a_job_without_an_image_is_refused(promptmill: Command, home_ledger: Ledger) -> None:
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=1)
    home_ledger.add_jobs([job(home_ledger.create_batch(new))])
    result = promptmill("reproduce", "1")
    assert (result.exit_code, "no image to compare with: it is queued" in result.output) == (2, True)


@pytest.mark.usefixtures("home_ledger")
@pytest.mark.parametrize("words", [(), ("77",), ("nowhere.png",)])
def test_what_is_not_there_is_bad_usage(promptmill: Command, words: tuple[str, ...]) -> None:
    assert promptmill("reproduce", *words).exit_code == 2


def test_a_picture_that_says_nothing_of_us_is_refused(promptmill: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_image(np.zeros((8, 8, 3), np.uint8), path, metadata=None)
    result = promptmill("reproduce", path)
    assert result.exit_code == 2
    assert "does not say how Promptmill made it" in result.output
