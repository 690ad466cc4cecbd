"""The embedded queue on a real server: one owner, no leftovers, and it survives its server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.embedded import EmbeddedQueue, answers, running_url, url_file
from producer.errors import QueueInUse, QueueNotStarted

#: A process that owns a queue until it is killed.
OWNER = """
import pathlib, sys, time
from producer.embedded import EmbeddedQueue
with EmbeddedQueue(pathlib.Path(sys.argv[1]), sys.argv[2]):
    time.sleep(60)
"""


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_others_find_a_queue_while_it_runs(tmp_path: Path, server: str) -> None:
    with EmbeddedQueue(tmp_path, server) as queue:
        assert running_url(tmp_path) == queue.url
    assert running_url(tmp_path) is None
    assert not answers(queue.url)


def test_nobody_else_can_open_it(tmp_path: Path, server: str) -> None:
    with EmbeddedQueue(tmp_path, server) as queue:
        socket = Path(queue.url.removeprefix("redis+socket://"))
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert queue.folder.stat().st_mode & 0o777 == 0o700


def test_a_home_has_one_queue(tmp_path: Path, server: str) -> None:
    with (
        EmbeddedQueue(tmp_path, server),
        pytest.raises(QueueInUse, match="promptmill submit FILE"),
        EmbeddedQueue(tmp_path, server),
    ):
        pass


def test_a_server_that_dies_is_started_again_with_what_it_held(tmp_path: Path, server: str) -> None:
    from redis import Redis

    with EmbeddedQueue(tmp_path, server) as queue:
        client = Redis(unix_socket_path=queue.url.removeprefix("redis+socket://"))
        client.lpush("jobs", "1")
        pid = client.info("server")["process_id"]
        time.sleep(1.2)  # the append-only file is written every second
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not answers(queue.url))
        wait_until(lambda: _answers_again(queue))
        assert client.lrange("jobs", 0, -1) == [b"1"]
        client.close()


def _answers_again(queue: EmbeddedQueue) -> bool:
    """Its socket closes a moment before the server has ended, so that one check may come too early."""
    queue.check()
    return answers(queue.url)


def test_a_server_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QueueNotStarted, match=r"valkey\.log"), EmbeddedQueue(tmp_path, "/bin/false"):
        pass


def test_it_ends_with_an_owner_that_is_killed(tmp_path: Path, server: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path, server])
    wait_until(lambda: running_url(tmp_path))
    url = url_file(tmp_path).read_text()
    owner.kill()
    owner.wait()
    wait_until(lambda: not answers(url))
    wait_until(lambda: _can_be_owned(tmp_path, server))


def _can_be_owned(home: Path, server: str) -> bool:
    try:
        with EmbeddedQueue(home, server):
            return True
    except QueueInUse:
        return False
