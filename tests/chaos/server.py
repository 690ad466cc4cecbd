"""The queue's server, with everything that can happen to one."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import redis

#: Seconds the server has to answer.
PATIENCE = 20.0


class Server:
    """A server of our own on a Unix socket, with its append-only file, while the block is open."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.binary, self.folder = binary, folder
        self.socket = folder / "queue.sock"
        self.url = f"redis+socket://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Server":
        self.folder.mkdir(mode=0o700)
        self._stack.callback(self.kill)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=PATIENCE)

    def start(self) -> None:
        words = (
            self.binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", "",
            "--appendonly", "yes", "--maxmemory-policy", "noeviction", "--logfile", str(self.folder / "log"),
        )  # fmt: skip
        self._process = subprocess.Popen(words)
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(redis.RedisError):
                self.client.ping()
                return
            assert time.monotonic() < deadline, f"{self.binary} does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        self.socket.unlink(missing_ok=True)

    def restart(self, *, with_file: bool) -> None:
        """Kill -9, and start again: with what it has written, or with nothing."""
        self.kill()
        if not with_file:
            shutil.rmtree(self.folder / "appendonlydir")
        self.start()

    def flush(self) -> None:
        self.client.flushall()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It answers nobody."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """It refuses writes: its memory is full."""
        self.client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.client.config_set("maxmemory", "0")

    @contextmanager
    def unable_to_save(self) -> Iterator[None]:
        """It refuses writes (MISCONF): its last snapshot failed, since a folder has the snapshot's name."""
        snapshot = self.folder / "dump.rdb"
        # That of the last time.
        snapshot.unlink(missing_ok=True)
        snapshot.mkdir()
        self.client.config_set("save", "3600 1")
        self._snapshot("err")
        try:
            yield
        finally:
            snapshot.rmdir()
            self._snapshot("ok")
            self.client.config_set("save", "")

    def _snapshot(self, status: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.client.info("persistence")["rdb_last_bgsave_status"] != status:
            with suppress(redis.ResponseError):
                self.client.bgsave()
            assert time.monotonic() < deadline, f"no snapshot ends as {status}"
            time.sleep(0.1)

    def double(self, times: int) -> int:
        """Put every message that waits into its list so many times more; returns how many waited."""
        waiting = 0
        for key in self.client.scan_iter("promptmill:promptmill*"):
            if self.client.type(key) == b"list":
                messages = self.client.lrange(key, 0, -1)
                waiting += len(messages)
                for message in messages * times:
                    self.client.lpush(key, message)
        return waiting

    def waiting(self) -> int:
        """Messages in lists, and taken ones that are not acknowledged."""
        keys = list(self.client.scan_iter("promptmill:*"))
        lists = sum(self.client.llen(key) for key in keys if self.client.type(key) == b"list")
        return lists + sum(self.client.hlen(key) for key in keys if key.endswith(b"unacked"))
