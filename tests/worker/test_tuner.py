"""The search for the best row count, with a clock and a memory of its own."""

from dataclasses import dataclass, field

import pytest
import torch

from worker.memory import DeviceMemory
from worker.profile import Findings, Speed
from worker.tuner import CALLS, Tuner, safe_rows

MIB = 2**20


class Card(DeviceMemory):
    """A card on which weights take 1,000 MiB and a row 100 MiB."""

    def __init__(self, limit: int) -> None:
        super().__init__(torch.device("cpu"))
        self.limit = limit
        self.rows = 0

    def share(self) -> int | None:
        return self.limit

    def used(self) -> int:
        return 1000 * MIB

    def peak(self) -> int:
        return self.used() + self.rows * 100 * MIB


@dataclass
class Trial:
    """Calls of a tuner whose seconds are those of `speed` rows a second at each row count."""

    speed: dict[int, float]
    memory: Card = field(default_factory=lambda: Card(100_000 * MIB))
    most: int = 64
    findings: Findings = field(default_factory=Findings)
    kept: Findings = field(default_factory=Findings)
    now: float = 0.0
    calls: int = 0

    def tuner(self, first: int = 4) -> Tuner:
        options = {"first": first, "most": self.most, "clock": lambda: self.now}
        return Tuner(self.findings, self.kept.learn, self.memory, **options)

    def call(self, tuner: Tuner, rows: int | None = None, waiting: int = 1000) -> int:
        """One UNet call; returns its rows."""
        rows = self.memory.rows = rows or tuner.rows
        with tuner.timed(rows, waiting):
            self.calls += 1
            # The first call of a row count warms up.
            self.now += rows / self.speed[rows] * (10 if self.calls % (CALLS + 1) == 1 else 1)
        return rows

    def settle(self, tuner: Tuner) -> list[int]:
        """The row counts of the calls until it has settled."""
        called: list[int] = []
        while not tuner.settled and len(called) < 200:
            called.append(self.call(tuner))
        return sorted(set(called))


def test_it_doubles_while_that_pays_and_settles() -> None:
    trial = Trial({4: 10.0, 8: 15.0, 16: 20.0, 32: 20.4})
    tuner = trial.tuner()
    assert trial.settle(tuner) == [4, 8, 16, 32]
    assert (tuner.rows, trial.kept.settled) == (16, 16)
    assert trial.kept.speeds[8].rows_per_second == 15.0


def test_the_settled_count_is_taken_at_once() -> None:
    trial = Trial({16: 20.0}, findings=Findings(settled=16, speeds={16: Speed(20.0, 0)}))
    tuner = trial.tuner()
    assert (tuner.rows, tuner.settled) == (16, True)


def test_a_slow_moment_is_looked_at_twice() -> None:
    trial = Trial({4: 5.0, 8: 20.0, 16: 15.0, 32: 15.0})
    tuner = trial.tuner()
    while tuner.rows < 16:
        trial.call(tuner)
    trial.speed[8] = 10.0
    assert trial.settle(tuner) == [8, 16, 32]
    assert tuner.rows == 16


def test_it_does_not_double_while_too_few_wait() -> None:
    trial = Trial({4: 10.0, 8: 15.0})
    tuner = trial.tuner()
    assert {trial.call(tuner, waiting=3) for _ in range(50)} == {4}
    trial.call(tuner, waiting=4)
    assert trial.call(tuner) == 8


def test_calls_that_are_not_full_teach_nothing() -> None:
    trial = Trial({2: 10.0, 3: 10.0, 4: 10.0})
    tuner = trial.tuner()
    for _ in range(20):
        trial.call(tuner, rows=2)
    assert trial.kept.speeds == {}
    for _ in range(20):
        trial.call(tuner, rows=3)
    assert set(trial.kept.speeds) == {4}


def test_it_does_not_double_into_the_last_tenth_of_the_memory() -> None:
    trial = Trial({4: 10.0, 8: 20.0, 16: 40.0, 32: 80.0}, memory=Card(2700 * MIB))
    tuner = trial.tuner()
    assert trial.settle(tuner) == [4, 8]
    assert (tuner.rows, trial.kept.settled) == (8, 8)


def test_at_the_most_it_stays_but_not_for_good() -> None:
    trial = Trial({4: 10.0, 8: 20.0}, most=8)
    tuner = trial.tuner()
    trial.settle(tuner)
    assert (tuner.rows, trial.kept.settled) == (8, None)
    again = Trial({8: 20.0, 16: 40.0, 32: 40.0}, findings=trial.kept)
    assert again.settle(again.tuner()) == [8, 16, 32]


def test_frozen_it_never_doubles() -> None:
    trial = Trial({4: 10.0})
    tuner = trial.tuner()
    tuner.freeze()
    assert {trial.call(tuner) for _ in range(50)} == {4}


def test_out_of_memory_halves_the_rows_and_is_remembered() -> None:
    trial = Trial({4: 10.0, 8: 20.0})
    tuner = trial.tuner(first=16)
    assert tuner.shrink(called=16, least=2)
    assert tuner.shrink(called=8, least=2)
    assert (tuner.rows, trial.kept.settled, trial.kept.too_many) == (4, 4, 8)
    again = Trial({}, findings=Findings(too_many=8, speeds={16: Speed(1.0, 0)})).tuner()
    assert again.rows == 4


def test_a_count_that_ran_out_of_memory_is_not_tried_again() -> None:
    trial = Trial({4: 10.0}, findings=Findings(too_many=8))
    tuner = trial.tuner()
    assert trial.settle(tuner) == [4]


def test_a_sample_is_never_halved() -> None:
    tuner = Trial({}).tuner()
    assert tuner.shrink(called=3, least=2)
    assert tuner.rows == 2
    assert not tuner.shrink(called=2, least=2)


@pytest.mark.parametrize(("gibibytes", "rows"), [(1, 2), (2, 4), (3, 8), (80, 16)])
def test_the_first_count_is_safe(gibibytes: int, rows: int) -> None:
    # SD 1.x at 512x512 in half precision.
    assert safe_rows(320, 64 * 64, 2, Card(gibibytes * 1024 * MIB)) == rows
