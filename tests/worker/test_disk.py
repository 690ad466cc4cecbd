"""The wait for disk space."""

import threading
from pathlib import Path

from worker.disk import wait_for_space


def test_there_is_no_wait_where_there_is_room(tmp_path: Path) -> None:
    assert wait_for_space(tmp_path, 0, threading.Event())


def test_a_stop_ends_the_wait(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert not wait_for_space(tmp_path, 10**12, stop)
