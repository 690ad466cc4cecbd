"""Whom a worker asks for a hub id, and that it asks nobody else."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

OPEN = """
import socket, sys
connect = socket.socket.connect
def refuse(self, address):
    assert address[0] == "127.0.0.1", address
    return connect(self, address)
socket.socket.connect = refuse
from worker.checkpoints import open_checkpoint
from worker.errors import CheckpointMissing
try:
    open_checkpoint(sys.argv[1], device="cpu")
except CheckpointMissing as error:
    print(error)
"""


class Mirror(HTTPServer):
    """Has nothing, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Mirror)
        self.server.asked.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_id_is_looked_for_where_the_environment_says(mirror: Mirror, tmp_path: Path, offline: bool) -> None:
    mirrored = {"HF_ENDPOINT": f"http://127.0.0.1:{mirror.server_port}", "HF_HOME": str(tmp_path)}
    environ = {**os.environ, **mirrored, "HF_HUB_OFFLINE": str(int(offline)), "HF_HUB_DISABLE_TELEMETRY": "0"}
    command = [sys.executable, "-c", OPEN, "owner/name"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.stdout.startswith("There is no file or folder 'owner/name'"), done.stderr
    assert any("owner/name" in path for path in mirror.asked) != offline
    assert not (offline and mirror.asked)
