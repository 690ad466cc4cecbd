"""Looks at everything rendering needs, and says for each fault what to do."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from configs.checkpoints import Way, checkpoint_path, way_of
from configs.errors import ConfigError
from configs.settings import Settings
from db.errors import LedgerError
from producer.child import PYTHON
from producer.errors import ProducerError, tell_file

#: Files of a diffusers folder that must be there; where its own pipeline renders it, the first.
CHECKPOINT_FILES = ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json")
#: What to do after an error, where its message does not say it.
REMEDIES = {"queue": "start Redis, or correct or unset PROMPTMILL_BROKER_URL"}
#: Seconds the GPU stack has: importing it from a cold disk can take a minute.
PATIENCE = 300


class Finding(NamedTuple):
    """One thing looked at; ``remedy`` says what to do where it is not ``ok``."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, as they come."""
    yield Finding("promptmill", True, version("promptmill"))
    yield check_python()
    for check in (check_disk, check_ledger, check_queue, check_checkpoint):
        yield _guarded(check, settings)
    yield from check_device()


def check_python() -> Finding:
    right = sys.version_info >= (3, 10)
    return Finding("python", right, f"{platform.python_version()} at {sys.executable}", "install Python 3.10 or newer")


def check_disk(settings: Settings) -> Finding:
    """Room for images: below the watermark workers wait."""
    root = settings.images_root
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free // 2**20
    remedy = "make room, or set PROMPTMILL_IMAGES to a folder on a larger disk"
    return Finding("disk", free >= settings.disk_watermark_mb, f"{free:,} MB free for {root}", remedy)


def check_ledger(settings: Settings) -> Finding:
    """It opens, has this version's tables, and is sound."""
    from sqlalchemy import make_url

    from db import migrate, queries
    from db.session import journal_mode, sqlite_driver

    ledger = migrate.open_ledger(settings.ledger_url)
    shown = make_url(settings.ledger_url).render_as_string(hide_password=True)
    told = f"{shown}, revision {migrate.revision(ledger.engine)}"
    if ledger.engine.dialect.name != "sqlite":
        return Finding("ledger", True, told)
    driver = sqlite_driver()
    told += f", SQLite {driver.sqlite_version}, journal mode {journal_mode(driver)}"
    damage = queries.damage(ledger.engine)
    remedy = "stop all workers, copy the file away, and recover it: https://sqlite.org/recovery.html"
    return Finding("ledger", not damage, f"{told}: {damage}" if damage else told, remedy)


def check_queue(settings: Settings) -> Finding:
    """The configured queue answers; or an embedded one runs or can be started."""
    from producer.embedded import EmbeddedQueue, running_url, server_binary
    from producer.queue import Queue, shown

    if settings.broker_url:
        Queue(settings.broker_url).ping()
        return Finding("queue", True, f"{shown(settings.broker_url)} answers")
    if url := running_url(settings.home):
        return Finding("queue", True, f"embedded, running at {url}")
    with EmbeddedQueue(settings.home):
        return Finding("queue", True, f"embedded, {server_binary()} starts")


def check_checkpoint(settings: Settings) -> Finding:
    """The default model is there to be read; that its weights are sound is seen when a worker opens it."""
    model = str(settings.job.get("model"))
    path = Path(checkpoint_path(model))
    remedy = "correct `model` in promptmill.toml, or reinstall Promptmill if it is `demo`"
    if path.is_dir():
        files = CHECKPOINT_FILES[:1] if way_of(model) is Way.PLAIN else CHECKPOINT_FILES
        missing = [name for name in files if not (path / name).is_file()]
        told = f"{model}: {path}" + (f" lacks {', '.join(missing)}" if missing else "")
        return Finding("checkpoint", not missing, told, remedy)
    if path.is_file() or path.is_absolute():
        return Finding("checkpoint", path.is_file(), f"{model}{'' if path.is_file() else ' is not there'}", remedy)
    return Finding("checkpoint", True, f"{model} is fetched from the hub when it is first used, if it is not here yet")


def check_device() -> Iterator[Finding]:
    """Torch, the driver and the device, as a process of the worker's finds them."""
    command = [*PYTHON, "-m", "worker.doctor"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        yield Finding("device", False, f"does not answer within {PATIENCE} seconds", "restart the machine's GPU driver")
        return
    for line in asked.stdout.splitlines():
        if line.startswith("{"):
            yield Finding(**json.loads(line))
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        yield Finding("device", False, last, "reinstall Promptmill; the GPU stack cannot be used as it is")


def _guarded(check: Callable[[Settings], Finding], settings: Settings) -> Finding:
    """An error whose message says what to do is a finding too."""
    try:
        return check(settings)
    except (ProducerError, LedgerError, ConfigError) as error:
        return _failed(check, str(error))
    except OSError as error:
        return _failed(check, tell_file(error) or str(error))


def _failed(check: Callable[[Settings], Finding], told: str) -> Finding:
    name = check.__name__.removeprefix("check_")
    return Finding(name, False, told, REMEDIES.get(name, ""))
