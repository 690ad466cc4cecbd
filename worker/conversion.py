"""Conversion of a single file to safetensors: the parts that are rendered, in one number format, tensor by tensor.

Memory holds one tensor at a time. The format: https://huggingface.co/docs/safetensors.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.errors import CheckpointUnsupported, NotConverted
from worker.families import EMA, UNET, Family
from worker.weight_file import WeightFile

FORMATS = {"float16": ("F16", 2), "bfloat16": ("BF16", 2), "float32": ("F32", 4)}
"""What safetensors calls a precision, and the bytes of a number."""
FLOATS = ("F64", "F32", "F16", "BF16")
BYTES = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
MARKS = ("v_pred", "ztsnr")
"""Empty tensors that tell the noise."""
ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of the new file."""

    name: str
    source: str
    """Its name in the old one."""
    dtype: str
    shape: list[int]
    bytes: int


def convert(
    file: WeightFile,
    family: Family,
    target: Path,
    precision: str,
    *,
    averaged: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> str:
    """Write the checkpoint that `file` holds; returns the new file's sha256.

    averaged: whether the UNet's weights are the averages of training (EMA). progress: is told of bytes written.
    What is there under the name of `target` is replaced once all is on disk. Raises CheckpointRefused, NotConverted.
    """
    entries = plan(file, family, precision, averaged=averaged)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        sha256 = _write(file, entries, temporary, getattr(torch, precision), progress)
        temporary.replace(target)
    except OSError as error:
        raise NotConverted(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return sha256


def plan(file: WeightFile, family: Family, precision: str, *, averaged: bool = False) -> list[Entry]:
    """The tensors of the new file. Raises CheckpointUnsupported where there are no averages."""
    parts = tuple(family.prefixes.values())
    names = sorted(name for name in file.header if name.startswith(parts) or name in MARKS)
    sources = {name: _average_of(file, name) if averaged and name.startswith(UNET) else name for name in names}
    return [_entry(name, source, file.header[source], precision) for name, source in sources.items()]


def _entry(name: str, source: str, found: Mapping[str, Any], precision: str) -> Entry:
    dtype, size = FORMATS[precision] if found["dtype"] in FLOATS else (found["dtype"], BYTES.get(found["dtype"], 0))
    if not size:
        raise CheckpointUnsupported(f"{source} has numbers of the kind {dtype}, which are not converted.")
    return Entry(name, source, dtype, found["shape"], math.prod(found["shape"]) * size)


def _average_of(file: WeightFile, name: str) -> str:
    """How ldm/modules/ema.py of the original repository names the average of a weight."""
    average = EMA + name.removeprefix("model.").replace(".", "")
    if average not in file.header:
        raise CheckpointUnsupported(f"{file.path} has no averaged (EMA) weights; convert it without --ema.")
    return average


def _write(
    file: WeightFile, entries: list[Entry], path: Path, dtype: torch.dtype, progress: Callable[[int], object]
) -> str:
    digest = hashlib.sha256()
    with path.open("xb") as new:
        for content in chain([_header(entries)], (_numbers(file, entry, dtype) for entry in entries)):
            new.write(content)
            digest.update(content)
            progress(len(content))
        new.flush()
        os.fsync(new.fileno())
    return digest.hexdigest()


def _header(entries: list[Entry]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        start, end = end, end + entry.bytes
        header[entry.name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _numbers(file: WeightFile, entry: Entry, dtype: torch.dtype) -> bytes:
    found = file.read(entry.source)
    tensor = found.to(dtype) if found.is_floating_point() else found
    if found.is_floating_point() and not _is_finite(tensor) and _is_finite(found):
        raise NotConverted(f"{entry.source} of {file.path} is too large for float16; choose bfloat16 or float32.")
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
