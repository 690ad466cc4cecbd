"""SIGSTOP, and the certainty that it has come to every thread."""

import os
import signal
import time
from pathlib import Path


def freeze(pid: int, patience: float = 10.0) -> None:
    """Stop a process; when this returns none of its threads will do anything.

    Without the wait, a thread in a system call may still get a lock that somebody has just found free.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + patience
    while any(state not in "TtZX" for state in states(pid)):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.01)


def states(pid: int) -> list[str]:
    """The states of its threads (proc(5), `stat`)."""
    found = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            found.append(stat.read_text("utf-8").rpartition(")")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
