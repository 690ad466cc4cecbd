"""Weight files: found and checked as files, before anything is loaded."""

import json
from pathlib import Path
from typing import Any

from configs.weight_files import choose_weights
from worker.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsupported

GIT_LFS = b"version https://git-lfs"
HEADER_LIMIT = 100_000_000
"""Bytes; the safetensors format's own limit."""


def find_weights(component: Path) -> tuple[list[Path], str | None]:
    """The safetensors files of a component's folder, and their variant. Raises CheckpointRefused where it has none."""
    files, variant = choose_weights(component)
    if not files:
        raise _no_weights(component)
    return files, variant


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name, after checking that the file is whole.

    The format: https://huggingface.co/docs/safetensors. Raises CheckpointBroken.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if (start + file.read(len(GIT_LFS) - 8)).startswith(GIT_LFS):
            raise CheckpointBroken(
                f"{path} is a git-lfs pointer, not the weights; run `git lfs pull` in its repository."
            )
        length = int.from_bytes(start, "little")
        if size < 8 or length > min(size - 8, HEADER_LIMIT):
            raise CheckpointBroken(f"{path} is truncated or not a safetensors file; download it again.")
        file.seek(8)
        header = _parse_header(path, file.read(length))
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != 8 + length + end:
        raise CheckpointBroken(f"{path} has {size} bytes and should have {8 + length + end}; download it again.")
    return header


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        for entry in header.values():
            _, _ = entry["data_offsets"]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointBroken(f"{path} does not begin as a safetensors file does; download it again.") from error
    return dict(header)


def _no_weights(component: Path) -> CheckpointMissing | CheckpointUnsupported:
    if any(component.glob("*.bin")):
        return CheckpointUnsupported(
            f"{component} has only pickled weights (.bin), which can run code when opened; "
            "get the safetensors files of this checkpoint."
        )
    return CheckpointMissing(f"{component} has no .safetensors file; the checkpoint is incomplete, download it again.")
