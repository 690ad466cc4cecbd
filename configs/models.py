"""Models: short names of checkpoints, kept in a file of the home.

Each host has its own file, since a checkpoint may lie elsewhere on each; jobs carry the name. The hash tells whether a
name means the same weights everywhere.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from configs.errors import ConfigError
from configs.settings import get_settings

FILE_NAME = "models.json"
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}", re.ASCII)
RESERVED = ("demo",)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What a name stands for."""

    path: str
    """Of a file, or of a diffusers folder."""
    sha256: str
    """Over the weight files; of a single file, the file's own."""
    bytes: int
    """Of the weight files."""
    kind: str
    """In words."""
    precision: str
    """Of the weights as they are stored."""

    @property
    def short_hash(self) -> str:
        """What A1111 calls the model hash."""
        return self.sha256[:10]


def find_model(name: str) -> Model | None:
    """What a name stands for on this host."""
    return read_models().get(name) if NAME.fullmatch(name) else None


def read_models() -> Mapping[str, Model]:
    """All names. Raises ConfigError where their file is damaged."""
    path = get_settings().home / FILE_NAME
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}


def write_models(models: Mapping[str, Model]) -> None:
    """Replace the file, whole or not at all."""
    path = get_settings().home / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(dict(sorted(models.items()))), indent=2))
    temporary.replace(path)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Mapping[str, Model]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Model])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; correct it, or delete it and add your models anew."
        ) from error
