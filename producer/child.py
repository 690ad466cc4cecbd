"""Child processes that end when we do, however we end."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

#: Our Python, not looking for modules where the user stands: a folder `worker` there is not ours. From 3.11 on.
PYTHON = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else [])]
#: Run in the new process before the program takes its place: the kernel will send it SIGTERM when the thread that
#: started it is gone. In a process of its own, because code run between fork and exec can hang when we have threads.
PREPARE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_child(
    argv: Sequence[str], *, log: IO[bytes] | None, env: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own, so that Ctrl-C reaches only us; to be called from the main thread.

    Its output goes to ``log``, or where ours goes. On Linux it gets SIGTERM when we die; elsewhere an orphan lives on
    after a kill -9 of ours.
    """
    return subprocess.Popen(
        [*_prefix(), *argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=env,
        start_new_session=True,
        pass_fds=pass_fds,
    )


def stop_child(process: subprocess.Popen[bytes], patience: float) -> None:
    """SIGTERM, and SIGKILL if it has not ended after ``patience`` seconds."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ""


def _prefix() -> list[str]:
    return [sys.executable, "-I", "-S", "-c", PREPARE, str(os.getpid())] if sys.platform == "linux" else []
