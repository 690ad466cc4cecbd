"""Weight files, safetensors or torch's pickles, told apart by what is in them and not by their names."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from worker.errors import CheckpointBroken, CheckpointUnsupported, refusing
from worker.pickled import PickledFile
from worker.weights import GIT_LFS, read_header

if TYPE_CHECKING:
    from torch import Tensor

ZIP = b"PK\x03\x04"
PAGES = (b"<!doctype", b"<html", b"<?xml", b'{"error')
"""How what a server sends instead of a file begins."""
ARCHIVES = (b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh")
OLD_PICKLE = b"\x80"
"""How a pickle begins: what torch wrote before 1.6 is several of them, one after the other."""
TAR = b"ustar"
START = 512
"""Bytes looked at."""


class WeightFile(Protocol):
    """Tensors by name, read one at a time."""

    @property
    def path(self) -> Path: ...

    @property
    def header(self) -> Mapping[str, Any]:
        """Each tensor's `dtype` (`F16`, `F32`, …) and `shape`, by its name."""

    def read(self, name: str) -> "Tensor":
        """One tensor, on the CPU. Raises CheckpointBroken."""


class SafetensorsFile:
    """A safetensors file. The format: https://huggingface.co/docs/safetensors."""

    def __init__(self, path: Path) -> None:
        """Raises CheckpointBroken where it is not whole."""
        self.path = path
        self.header: Mapping[str, Any] = read_header(path)
        self._file: Any = None

    def read(self, name: str) -> "Tensor":
        """One tensor, mapped from the disk."""
        from safetensors import safe_open

        with refusing(CheckpointBroken, f"{self.path} is damaged, download it again"):
            self._file = self._file or safe_open(self.path, framework="pt")
            tensor: Tensor = self._file.get_tensor(name)
        return tensor


def open_weight_file(path: Path) -> WeightFile:
    """Look into a file and check that it is whole. Raises CheckpointBroken, CheckpointUnsupported."""
    with refusing(CheckpointBroken, f"{path} cannot be read"), path.open("rb") as file:
        start = file.read(START)
    _refuse_foreign(path, start)
    if start.startswith(ZIP):
        return PickledFile(path)
    if start.startswith(OLD_PICKLE) or start[257:].startswith(TAR):
        raise CheckpointUnsupported(
            f"{path} was saved by a torch older than 1.6, in a format that is not read here; get it as .safetensors, "
            "or load and save it once with a newer torch."
        )
    return SafetensorsFile(path)


def _refuse_foreign(path: Path, start: bytes) -> None:
    """What is often found under a checkpoint's name."""
    if not start:
        raise CheckpointBroken(f"{path} is empty; download it again.")
    if start.startswith(GIT_LFS):
        raise CheckpointBroken(f"{path} is a git-lfs pointer, not the weights; run `git lfs pull` in its repository.")
    if start.lstrip().lower().startswith(PAGES):
        raise CheckpointBroken(
            f"{path} is a web page, not the weights; log in or accept the licence where it is from, and download again."
        )
    if start.startswith(ARCHIVES):
        raise CheckpointUnsupported(f"{path} is a compressed archive; unpack it, and give what is inside.")
