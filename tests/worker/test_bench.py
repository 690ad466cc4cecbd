"""`promptmill bench` counts the same work on both sides."""

from pathlib import Path

import msgspec
import pytest

from configs.settings import Settings
from worker.bench import Figures, describe, measure
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.workload import SAMPLERS, mixed


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    checkpoint = open_checkpoint("demo", device="cpu", dtype="float32")
    assert isinstance(checkpoint, Checkpoint)
    settings = Settings(home=Path(tmp_path_factory.mktemp("home")), max_rows=8)
    return measure(checkpoint, settings, 8, (64, 64))


@pytest.mark.slow
def test_rows_are_counted_on_both_sides(figures: Figures) -> None:
    assert figures.engine.images == figures.single.images == 8
    assert figures.engine.rows == figures.single.rows
    assert 0.5 < figures.rows_used <= 1
    assert 0 < figures.share_of_peak < 1


@pytest.mark.slow
def test_the_table_and_the_json_hold_all_figures(figures: Figures) -> None:
    assert msgspec.json.decode(msgspec.json.encode(figures), type=Figures) == figures
    table = describe(figures)
    assert all(phrase in table for phrase in ("promptmill", "one at a time", "rows used", "share of peak"))


def test_a_mixed_queue_is_the_same_every_time_and_holds_every_sampler() -> None:
    queue = mixed(100, "demo", 64, 64)
    assert queue == mixed(100, "demo", 64, 64)
    assert {sample.sampler for sample in queue} == set(SAMPLERS)
    assert {sample.guided for sample in queue} == {True, False}
