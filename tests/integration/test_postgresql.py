"""From prompt file to image with the ledger in PostgreSQL and the queue in Redis, as on several hosts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from db import queries
from db.migrate import open_ledger
from db.models import JobState
from tests.preloaded import Copy
from tests.worker.conftest import checkpoint_folder  # noqa: F401 - fixture

pytestmark = [pytest.mark.slow, pytest.mark.postgresql]


@pytest.mark.parametrize("server", [pytest.param("redis", marks=pytest.mark.redis)], indirect=True)
def test_a_file_is_submitted_rendered_and_sound(
    home: Path,
    broker: str,
    postgresql_url: str,
    checkpoint_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", broker)
    monkeypatch.setenv("PROMPTMILL_DATABASE_URL", postgresql_url)
    Path("prompts.csv").write_text("prompt,seed,Kind\na cat,1,animal\na sea,2,place\n")
    small = ("--model", str(checkpoint_folder), "--steps", "2", "--width", "64", "--height", "64")
    promptmill("submit", "prompts.csv", *small)
    worker = Copy([sys.executable, "-m", "worker", "--name", "w"], env=os.environ)
    ledger, deadline = open_ledger(postgresql_url), time.monotonic() + 120
    try:
        while queries.counts(ledger.engine, 1)[JobState.SUCCEEDED] < 2:
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)
    finally:
        worker.terminate()
        assert worker.wait(60) == 0
        ledger.engine.dispose()
    assert "2 images" in promptmill("fsck", "--deep")
    assert "a cat" in promptmill("history", "cat", "tag.Kind:animal")
    promptmill("report", "-o", str(home.parent / "report.html"))


def promptmill(*words: str) -> str:
    """What a command says that has to do well; in a process of its own, with whose end its connections close."""
    done = subprocess.run([sys.executable, "-m", "producer", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
