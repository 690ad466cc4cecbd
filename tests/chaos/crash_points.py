"""Named moments at which a process kills itself, once for each time the driver has asked for it.

The driver asks by a file; the process that passes the point and takes the file away dies there, as by kill -9.
"""

import os
import signal
from functools import wraps
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

#: Set for every process of the suite: the folder in which the driver speaks to them.
FOLDER = "CHAOS_FOLDER"
#: Where a worker dies.
OF_WORKERS = (
    "taken from the queue",
    "started",
    "on the device",
    "written",
    "renamed",
    "half of the commit",
    "before the commit",
    "committed",
    "acknowledged",
    "put back",
    "audited",
)
#: Where a fleet's parent does.
OF_FLEETS = ("found dead", "rescued")
#: Where `promptmill submit` does.
OF_PRODUCERS = ("batch recorded", "jobs recorded", "opened", "half sent")
POINTS = (*OF_WORKERS, *OF_FLEETS, *OF_PRODUCERS)


def demand(folder: Path, point: str) -> Path:
    """Ask that the next process to pass the point dies; the file returned is gone when one has."""
    path = folder / _name(point)
    path.touch()
    return path


def reach(point: str) -> None:
    """Pass a point."""
    try:
        Path(os.environ[FOLDER], _name(point)).unlink()
    except (FileNotFoundError, KeyError):
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _name(point: str) -> str:
    return "crash-" + point.replace(" ", "-")


def after(owner: Any, name: str, point: str) -> None:
    """Pass the point whenever the function has returned."""
    call = getattr(owner, name)

    @wraps(call)
    def passing(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        reach(point)
        return result

    setattr(owner, name, passing)


def before(owner: Any, name: str, point: str) -> None:
    """Pass the point whenever the function is called."""
    call = getattr(owner, name)

    @wraps(call)
    def passing(*args: Any, **kwargs: Any) -> Any:
        reach(point)
        return call(*args, **kwargs)

    setattr(owner, name, passing)


def arm_worker() -> None:
    """Set the points of a worker."""
    from kombu.transport.redis import QoS

    from db import outbox
    from db.ledger import Ledger
    from worker import tasks
    from worker.audit import Audit

    before(QoS, "append", "taken from the queue")
    after(Ledger, "start_jobs", "started")
    after(tasks.ChunkRunner, "_confirm", "written")
    after(tasks, "save_image", "renamed")
    after(Ledger, "finish_job", "committed")
    after(QoS, "ack", "acknowledged")
    # A worker sends only what it or another has put back.
    before(outbox, "send", "put back")
    before(Audit, "_send", "audited")
    event.listen(Engine, "before_cursor_execute", _in_transaction)
    event.listen(Engine, "commit", _commit)


def arm_fleet() -> None:
    """Set the points of a fleet's parent."""
    from producer import worker_process
    from producer.queue import Queue

    before(worker_process.WorkerProcess, "bury", "found dead")
    before(Queue, "send_rescued", "rescued")


def arm_producer() -> None:
    """Set the points of `promptmill submit`."""
    from kombu import Producer

    from db.ledger import Ledger

    after(Ledger, "create_batch", "batch recorded")
    after(Ledger, "add_jobs", "jobs recorded")
    after(Ledger, "open_batch", "opened")
    after(Producer, "publish", "half sent")


#: The connection that has inserted an image and not committed.
_inserted: set[int] = set()


def _in_transaction(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if statement.startswith("INSERT INTO image"):
        reach("half of the commit")
        _inserted.add(id(connection))


def _commit(connection: Any) -> None:
    if id(connection) in _inserted:
        _inserted.discard(id(connection))
        reach("before the commit")
