"""Workers forked from a process that has imported torch already: that takes a worker of its own seven seconds."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["worker.__main__", "worker.app", "worker.renderers"])


class Forked:
    """What `subprocess.Popen` would be of ``python PROGRAM WORDS``, as far as tests ask for it."""

    def __init__(self, program: Sequence[str], words: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self._process = CONTEXT.Process(target=_run, args=(program, words, dict(env), Path.cwd(), log))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self.wait()


def _run(program: Sequence[str], words: Sequence[str], env: dict[str, str], folder: Path, log: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.argv = ["worker", *words]
    flag, what = program
    if flag == "-m":
        runpy.run_module(what, run_name="__main__")
    else:
        exec(what, {"__name__": "__main__"})
