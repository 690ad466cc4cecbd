"""What a checkpoint is, told by its files alone: no weights are loaded, and nothing of the GPU stack is imported."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.checkpoints import Way, choose_way
from configs.weight_files import hash_files, weighty_components
from worker.errors import CheckpointBroken, CheckpointMissing
from worker.families import EMA, find_family
from worker.folder_files import check_files, read_json
from worker.weight_file import open_weight_file
from worker.weights import find_weights, read_header

PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
KINDS = {"sd-v1": "Stable Diffusion 1.x", "sd-v2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What is found."""

    path: str
    kind: str
    sha256: str
    """Over the weight files; of a single file, the file's own."""
    bytes: int
    """Of the weight files."""
    precision: str
    """Of most of the weights."""
    averaged: bool
    """Whether the averages of training (EMA) are beside the weights."""


def inspect(path: Path, progress: Callable[[int], object] = lambda _: None) -> Inspection:
    """Look into a file or a diffusers folder, and hash it. progress: is told of bytes. Raises CheckpointRefused."""
    if path.is_dir():
        return _inspect_folder(path, progress)
    if not path.is_file():
        raise CheckpointMissing(f"There is no file or folder {path}.")
    header = open_weight_file(path).header
    kind = KINDS[find_family(path, header).folder.name]
    return _found(path, kind, [path], header, progress)


def weight_files(folder: Path) -> list[Path]:
    """Those of a diffusers folder that decide its hash, in the hash's order. Raises CheckpointRefused."""
    index = read_json(folder / "model_index.json")
    way = find_way(folder, index)
    names = weighty_components(folder, way, index)
    return [file for name in names for file in find_weights(folder / name)[0]]


def find_way(folder: Path, index: Mapping[str, Any]) -> Way:
    """How the folder with that `model_index.json` is rendered."""
    unet = folder / "unet" / "config.json"
    return choose_way(index, read_json(unet) if unet.is_file() else {})


def _inspect_folder(folder: Path, progress: Callable[[int], object]) -> Inspection:
    index = read_json(folder / "model_index.json")
    way = find_way(folder, index)
    check_files(folder, way)
    kind = way.value if way is not Way.PLAIN else str(index.get("_class_name"))
    files = weight_files(folder)
    if not files:
        raise CheckpointBroken(f"{folder} has no weights; download it again.")
    header = {f"{file}/{name}": entry for file in files for name, entry in read_header(file).items()}
    return _found(folder, kind, files, header, progress)


def _found(
    path: Path, kind: str, files: list[Path], header: Mapping[str, Any], progress: Callable[[int], object]
) -> Inspection:
    stored = Counter(entry["dtype"] for entry in header.values())
    return Inspection(
        path=str(path.absolute()),
        kind=kind,
        sha256=hash_files(files, progress),
        bytes=sum(file.stat().st_size for file in files),
        precision=PRECISIONS.get(stored.most_common(1)[0][0], "other"),
        averaged=any(name.startswith(EMA) for name in header),
    )
