"""Processes that begin with torch and diffusers imported, which takes seconds of a core: copies of one that did so.

``fork_parent()`` leaves a process behind that does nothing but fork. A copy of it is our own child: the fork is made
twice, and while the one between ends we are the reaper of orphans. It has its own arguments, environment, folder and
streams, and a signal, kill -9 too, reaches it as any process. A copy of the command has such a parent of its own, for
the workers it starts.
"""

import array
import atexit
import ctypes
import faulthandler
import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

SET_DEATH_SIGNAL, SET_NAME, SET_REAPER = 1, 15, 36
#: A request, with its environment, is shorter.
LONGEST = 200_000
Task = dict[str, Any]


class Copy(subprocess.Popen[Any]):
    """What ``Popen([sys.executable, *program, *words])`` would start; ``program`` is ``-m NAME`` or ``-c CODE``."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, dies: bool = False, **more: Any):
        words = [str(word) for word in argv]
        self._task = {"argv": words[next(i for i, word in enumerate(words) if word in ("-m", "-c")) :], "dies": dies}
        self._task |= {"env": dict(os.environ if env is None else env), "cwd": str(Path.cwd()), "parent": os.getpid()}
        super().__init__(words, **more)

    def _execute_child(self, *given: Any) -> None:
        """Stands in for the fork and exec of Popen; 10 to 15 are the ends of the pipes."""
        pipes = given[10:16]
        streams = [own if pipe == -1 else pipe for own, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid, self._child_created = _parent().fork(self._task, streams), True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class Parent:
    """The process that forks, seen from the one whose children the copies are."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket, self._turn = ours, threading.Lock()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
        if os.fork():
            theirs.close()
            atexit.register(ours.close)
            return
        ours.close()
        _serve(theirs)

    def fork(self, task: Task, streams: Sequence[int]) -> int:
        """The number of the new process."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))]
        with self._turn:
            _prctl(SET_REAPER, 1)
            self._socket.sendmsg([json.dumps(task).encode()], rights)
            pid = int(self._socket.recv(100))
            assert self._socket.recv(100) == b"ours", "the process between has ended"
            _prctl(SET_REAPER, 0)
        return pid


def fork_parent() -> None:
    """To be called when what takes long is imported, and nothing has been done yet."""
    _parent()


_parent = cache(Parent)


def start_child(
    argv: Sequence[str], *, log: IO[bytes] | None, env: dict[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """In place of the one in `producer.child`."""
    return Copy(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, dies=True)


def _serve(connection: socket.socket) -> None:
    """Fork whenever asked, and never return; a copy runs its task and ends."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    _prctl(SET_NAME, b"forks")
    while True:
        message, rights, _, _ = connection.recvmsg(LONGEST, socket.CMSG_SPACE(12))
        if not message:
            os._exit(0)
        streams = array.array("i", rights[0][2])
        _load()
        if (between := os.fork()) == 0:
            between = os.getpid()
            if (pid := os.fork()) > 0:
                connection.send(str(pid).encode())
                os._exit(0)
            connection.close()
            _run(json.loads(message), streams, between)
        os.waitpid(between, 0)
        for stream in streams:
            os.close(stream)
        connection.send(b"ours")


def _load() -> None:
    """Import what takes long, the first time."""
    import worker.app
    import worker.renderers  # noqa: F401


def _run(task: Task, streams: Sequence[int], between: int) -> None:
    """Be the process of the task."""
    code = 1
    try:
        _take_over(task, streams)
        while os.getppid() == between:
            time.sleep(0.001)
        if task["dies"]:
            os.setsid()
            _prctl(SET_DEATH_SIGNAL, signal.SIGTERM)
            if os.getppid() != task["parent"]:
                os._exit(1)
        _call(task["argv"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _take_over(task: Task, streams: Sequence[int]) -> None:
    """Forget whose copy this is."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 256)
    faulthandler.disable()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
    logging.getLogger().handlers.clear()
    # As Python begins: for the tests, warnings are errors.
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    os.environ.clear()
    os.environ.update(task["env"])
    os.chdir(task["cwd"])
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _call(argv: Sequence[str]) -> None:
    from configs.settings import get_settings

    get_settings.cache_clear()
    flag, program, *words = argv
    sys.argv = [program, *words]
    _prctl(SET_NAME, program[:15].encode() if flag == "-m" else b"worker")
    if flag == "-c":
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
        return
    if program == "producer":
        _parent.cache_clear()
        fork_parent()
        import producer.worker_process

        producer.worker_process.start_child = start_child  # type: ignore[assignment,attr-defined]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def _prctl(option: int, value: int | bytes) -> None:
    assert ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0
