"""What another user of the machine can reach: neither ledger nor queue."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import Result

from db.migrate import open_ledger
from producer.embedded import EmbeddedQueue

Call = Callable[..., Result]


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o000], ids=["usual", "careless"])
def umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_home_and_ledger_are_the_owners_alone(home: Path, promptmill: Call) -> None:
    assert promptmill("submit", "-", text="a cat\n").exit_code == 0
    assert rights(home) == 0o700
    ledger = open_ledger(f"sqlite:///{home}/ledger.sqlite3")
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE job SET attempts = 0")
        files = sorted(home.glob("ledger.sqlite3*"))
        assert len(files) == 3  # with log and shared memory
        assert [rights(file) for file in files] == [0o600] * 3
    ledger.engine.dispose()


def test_the_rights_of_a_home_that_is_there_are_its_owners_affair(home: Path, promptmill: Call) -> None:
    home.mkdir(mode=0o750)
    promptmill("status")
    assert rights(home) == 0o750


@pytest.mark.usefixtures("umask")
def test_the_embedded_queue_is_behind_closed_folders(tmp_path: Path, server: str) -> None:
    with EmbeddedQueue(tmp_path / "home", server) as queue:
        link = Path(queue.url.removeprefix("redis+socket://"))
        assert stat.S_ISSOCK(link.stat().st_mode)
        assert [rights(place) for place in (link, link.parent, queue.folder)] == [0o700] * 3
    assert not link.parent.exists()


def test_the_embedded_queue_listens_on_no_port(tmp_path: Path, server: str) -> None:
    with EmbeddedQueue(tmp_path, server) as queue:
        process = psutil.Process(queue._server.pid)  # type: ignore[union-attr]
        assert [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user")
def test_another_user_cannot_open_the_embedded_queue(tmp_path: Path, server: str) -> None:
    knock = "import os,socket,sys; os.setuid(65534); socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    with EmbeddedQueue(tmp_path, server) as queue:
        words = [sys.executable, "-c", knock, queue.url.removeprefix("redis+socket://")]
        assert b"PermissionError" in subprocess.run(words, capture_output=True, check=False).stderr
