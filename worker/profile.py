"""What was measured on this machine: a JSON file in the home, shared by all workers."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a measurement holds for, and nothing else."""

    device: str
    memory: int | None
    """Bytes this process may take of the device; None where that is not measured."""
    checkpoint: str
    """Hash of the weights."""
    dtype: str
    width: int
    height: int
    torch: str
    """Its version."""

    @property
    def key(self) -> str:
        """Its name in the file."""
        fields = (self.device, self.memory, self.checkpoint, self.dtype, f"{self.width}x{self.height}", self.torch)
        return " | ".join(map(str, fields))


class Speed(msgspec.Struct, frozen=True):
    """Full UNet calls of one row count."""

    rows_per_second: float
    """Of the fastest of several calls."""
    peak: int
    """Bytes of the device in use at once, weights included; 0 where that is not measured."""


class Compiled(msgspec.Struct, frozen=True):
    """A compiled UNet call of one row count."""

    seconds: float
    """That compiling took, the last time."""
    gain: float
    """How many times faster it is than the UNet as it is."""


class Findings(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of a setup."""

    speeds: dict[int, Speed] = {}
    """By the number of rows."""
    compiled: dict[int, Compiled] = {}
    """The same of compiled calls."""
    settled: int | None = None
    """The row count chosen; None while that is open."""
    too_many: int | None = None
    """The smallest row count that ran out of memory."""
    share: int | None = None
    """Bytes there were when memory ran out."""
    vae_batch: int | None = None
    """Images the VAE can decode at once, where it ran out of memory with more."""
    tiled: bool = False
    """Whether the VAE must decode in tiles."""
    placement: int = 0
    """The `Placement` it takes."""

    def learn(self, **found: Any) -> None:
        """Take fields over; what is by the number of rows is added to what is known."""
        for name in ("speeds", "compiled"):
            found[name] = {**getattr(self, name), **found.get(name, {})}
        for name, value in found.items():
            setattr(self, name, value)


class Profile:
    """The findings of all setups by key. Several processes may write at once; without a path nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def read(self, setup: Setup) -> Findings:
        """What is known of a setup; nothing, and a warning, if the file is damaged."""
        return self._load().get(setup.key, Findings())

    def learn(self, setup: Setup, **found: Any) -> None:
        """Add to what is known of a setup, as `Findings.learn`, while no other process writes."""
        if self._path is None:
            return
        try:
            with _locked(self._path.with_suffix(".lock")):
                known = self._load()
                known.setdefault(setup.key, Findings()).learn(**found)
                fresh = self._path.with_suffix(".new")
                fresh.write_bytes(msgspec.json.format(msgspec.json.encode(known)))
                fresh.replace(self._path)
        except OSError as error:
            log.warning("What was measured cannot be kept: %s.", error)

    def _load(self) -> dict[str, Findings]:
        try:
            return msgspec.json.decode(self._path.read_bytes() if self._path else b"{}", type=dict[str, Findings])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s cannot be read and is begun anew: %s.", self._path, error)
            return {}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among processes while the block runs. Windows has no such lock: there a line may be lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
