"""The files that hold a checkpoint's weights, and the digest that tells checkpoints apart. None of them is loaded."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from configs.checkpoints import CLASSES, Way, choose_way

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
WEIGHTS = re.compile(r"(?:model|diffusion_pytorch_model)(?P<variant>\.\w+)?(?:-\d+-of-\d+)?\.safetensors")


def weight_files(place: Path) -> list[Path]:
    """Those of a single file or a diffusers folder, in the order of its digest; none where some cannot be found."""
    if place.is_file():
        return [place]
    try:
        index = _read(place / "model_index.json")
        unet = place / "unet" / "config.json"
        way = choose_way(index, _read(unet) if unet.is_file() else {})
    except (OSError, ValueError):
        return []
    found = [choose_weights(place / name)[0] for name in weighty_components(place, way, index)]
    return [file for files in found for file in files] if all(found) else []


def weighty_components(folder: Path, way: Way, index: Mapping[str, Any]) -> list[str]:
    """The components of a diffusers folder that have weights, in the order of its digest."""
    names = [*CLASSES] if way is not Way.PLAIN else [name for name in index if holds_weights(folder / name)]
    if way is Way.SD:
        names.remove("text_encoder_2")
    return sorted(names)


def choose_weights(component: Path) -> tuple[list[Path], str | None]:
    """The safetensors files of a component's folder, and their variant (`fp16` in `model.fp16.safetensors`).

    The plain files are taken where both are there, so that the digest does not depend on the device.
    """
    variants: dict[str | None, list[Path]] = {}
    for path in sorted(component.glob("*.safetensors")):
        if match := WEIGHTS.fullmatch(path.name):
            variants.setdefault(match["variant"] and match["variant"][1:], []).append(path)
    chosen = next((variant for variant in (None, "fp16", *variants) if variant in variants), None)
    return variants.get(chosen, []), chosen


def holds_weights(component: Path) -> bool:
    """Whether a component is a model: its folder has weights, be they pickles."""
    return any(path.suffix in (".safetensors", *PICKLES) for path in component.glob("*"))


def hash_files(paths: Iterable[Path], progress: Callable[[int], object] = lambda _: None) -> str:
    """sha256 over the files' contents in the order given; of a single file, the file's own. progress: told of bytes."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                progress(len(block))
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """Raises OSError, ValueError."""
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return content
