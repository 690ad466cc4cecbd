"""The server as a process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx


def test_the_server_needs_no_torch_and_ctrl_c_ends_it_cleanly(home: Path) -> None:
    environ = {**os.environ, "PROMPTMILL_HOME": str(home)}
    words = [sys.executable, "-m", "producer", "web", "--port", "0"]
    process = subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found
        assert httpx.get(f"{found[0]}/api/v1/batches", trust_env=False).json() == {"batches": [], "next": None}
        maps = Path(f"/proc/{process.pid}/maps")
        assert not maps.exists() or "libtorch" not in maps.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
