"""A few faults of each kind; `make chaos` injects many."""

import subprocess
import sys
from typing import Any

import pytest

from producer.embedded import server_binary
from tests.chaos.campaign import Campaign
from tests.chaos.crash_points import OF_WORKERS
from tests.chaos.faults import BY_NAME, Fault, crash
from tests.chaos.site import ROOT

pytestmark = pytest.mark.slow
#: The audit takes its time.
POINTS = [point for point in OF_WORKERS if point != "audited"]
#: How often each is injected.
SHORT = {
    "worker killed": 6,
    "killed when rescued": 1,
    "submit killed when jobs recorded": 1,
    "a job that kills its worker": 1,
    "server killed, its file lost": 1,
    "every message delivered thrice": 3,
    "disk of the images full": 1,
}


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_or_made_twice_by(name: str) -> None:
    fault = BY_NAME[name]
    outcome = Campaign(server_binary(), seed=0, hurried=True).play(fault, SHORT[name], 0)
    assert outcome.is_well, outcome
    assert outcome.injected or "disk" in name


def test_a_worker_may_die_at_each_of_its_moments() -> None:
    points = iter(POINTS)

    def die(site: Any, rng: Any, batch_id: int) -> float | None:
        return crash(site, rng, batch_id, point=next(points))

    fault = Fault(name="killed at each moment", inject=die, times=len(POINTS), attempts=10, pause=0.1, kills=True)
    outcome = Campaign(server_binary(), seed=0).play(fault, len(POINTS), 0)
    assert outcome.is_well, outcome
    assert outcome.injected == len(POINTS)


def test_a_worker_without_a_device_starts_without_its_libraries() -> None:
    code = "import sys, worker.app, worker.tasks; sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
