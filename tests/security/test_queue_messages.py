"""What anyone who can write to Redis can do: repeat and delay work, and nothing else."""

import base64
import json
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from configs.celeryconfig import QUEUE, TASK, create_app

Message = dict[str, Any]


class Harm:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def message(body: bytes, content_type: str, **headers: object) -> Message:
    """One as kombu writes it into Redis."""
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8" if "json" in content_type else "binary",
        "content-type": content_type,
        "headers": {"lang": "py", "task": TASK, "id": "1", "root_id": "1", **headers},
        "properties": {
            "delivery_mode": 2, "priority": 5, "delivery_tag": "1", "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }  # fmt: skip


@pytest.fixture
def received(broker: str) -> Iterator[Callable[..., list[object]]]:
    """Puts messages into the queue, and a good one after them; what a worker's task is called with."""
    app = create_app(broker)
    calls: list[object] = []

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def render(*arguments: object) -> None:
        calls.append(arguments)

    def work(*hostile: Message) -> list[object]:
        good = message(json.dumps([[[7]], {}, {}]).encode(), "application/json")
        with app.connection_for_write() as connection:
            for one in (*hostile, good):
                connection.default_channel.client.lpush(f"{QUEUE}:5", json.dumps(one))
        with start_worker(app, pool="solo", perform_ping_check=False):
            deadline = time.monotonic() + 20
            while ([7],) not in calls and time.monotonic() < deadline:
                time.sleep(0.05)
        return calls

    level = logging.getLogger().level
    yield work
    # Celery has set it for the whole process.
    logging.getLogger().setLevel(level)
    app.close()


@pytest.mark.filterwarnings("ignore::celery.exceptions.SecurityWarning")
@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/x-yaml", "application/json"])
def test_a_pickle_in_the_queue_is_refused_and_harmless(
    received: Callable[..., list[object]], tmp_path: Path, content_type: str
) -> None:
    harm = tmp_path / "harm"
    assert received(message(pickle.dumps(Harm(harm)), content_type)) == [([7],)]
    assert not harm.exists()
