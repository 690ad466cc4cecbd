"""``python -m tests.chaos.null_worker``: a worker process with the null engine, whose clock and death are ordered."""

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.chaos.crash_points import FOLDER, arm_worker

#: Names the variable with the null engine's seconds for one batch of images.
SECONDS = "CHAOS_SECONDS"
#: The file that says by how many seconds the wall clock is wrong.
CLOCK = "clock"


def main() -> None:
    folder = Path(os.environ[FOLDER])
    # Before anything imports the function by its name.
    obey_clock(folder)
    stand_in(folder, float(os.environ[SECONDS]))
    arm_worker()
    from worker.__main__ import main as work

    work()


def obey_clock(folder: Path) -> None:
    """Step the wall clock whenever the driver writes a number into the file."""
    now, shift = time.time, [0.0]

    def follow() -> None:
        while True:
            try:
                shift[0] = float((folder / CLOCK).read_text("utf-8"))
            except (OSError, ValueError):
                shift[0] = 0.0
            time.sleep(0.2)

    time.time = lambda: now() + shift[0]
    threading.Thread(target=follow, name="clock", daemon=True).start()


def stand_in(folder: Path, seconds: float) -> None:
    """Take the place of the module that renders, and of the libraries it needs."""
    module: Any = ModuleType("worker.renderers")
    module.open_engine = partial(_open_engine, folder, seconds)
    sys.modules[module.__name__] = module


def _open_engine(folder: Path, seconds: float, *_: object, on_hungry: Any, settle: Any, **__: object) -> Any:
    from tests.chaos.null_engine import NullEngine

    return NullEngine(seconds=seconds, folder=folder, on_hungry=on_hungry, settle=settle)


if __name__ == "__main__":
    main()
