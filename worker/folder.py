"""Diffusers folders: JSON files and weights, checked as files, then loaded model by model. No code of theirs runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import torch
import transformers

from configs.weight_files import hash_files, holds_weights
from worker.errors import CheckpointBroken, CheckpointUnsupported, refusing
from worker.folder_files import read_json
from worker.weights import find_weights, read_header

LIBRARIES: Mapping[str, ModuleType] = {"diffusers": diffusers, "transformers": transformers}


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight files of one component, and their variant (`fp16` in `model.fp16.safetensors`)."""

    files: list[Path]
    variant: str | None


class Folder:
    """A diffusers folder whose files have been checked, and nothing of it loaded."""

    def __init__(self, path: Path, classes: Mapping[str, type]) -> None:
        """classes: of the components that hold weights. Raises CheckpointRefused where files are not whole."""
        self.path = path
        self._classes = classes
        self._weights = {name: Weights(*find_weights(path / name)) for name in sorted(classes)}
        self._files = [file for weights in self._weights.values() for file in weights.files]
        self.headers = [read_header(file) for file in self._files]

    def hash(self) -> str:
        """sha256 over the weight files, by the components' names."""
        return hash_files(self._files)

    def load(self, dtype: torch.dtype) -> dict[str, Any]:
        """The models by their components' names, on the CPU. Raises CheckpointBroken."""
        return {name: self._load(name, weights.variant, dtype) for name, weights in self._weights.items()}

    def _load(self, name: str, variant: str | None, dtype: torch.dtype) -> Any:
        """A weight that the files lack is an error, not a random number."""
        model_class: Any = self._classes[name]
        options: dict[str, Any] = {"use_safetensors": True, "variant": variant, "local_files_only": True}
        options["dtype" if issubclass(model_class, transformers.PreTrainedModel) else "torch_dtype"] = dtype
        with refusing(CheckpointBroken, f"The {name} of {self.path} cannot be loaded"):
            model, info = model_class.from_pretrained(self.path, subfolder=name, output_loading_info=True, **options)
        if missing := sorted(info["missing_keys"]):
            raise CheckpointBroken(f"The {name} of {self.path} lacks weights, {missing[0]} for one; download it again.")
        return model.eval().requires_grad_(False)


def read_index(folder: Path) -> dict[str, Any]:
    """`model_index.json`, which names the pipeline and its components. Raises CheckpointRefused.

    What would have code of the folder run is refused here: a pipeline or component of another library, and models
    whose configuration maps transformers' classes to files.
    """
    index = read_json(folder / "model_index.json")
    check_pipeline_code(folder, index)
    for name, (library, _) in components(index).items():
        configs = sorted((folder / name).glob("*config.json"))
        if _find_module(library) is None or any("auto_map" in read_json(config) for config in configs):
            raise CheckpointUnsupported(
                f"{folder} is a {index['_class_name']} whose {name} has code of its own, which is never run."
            )
    return index


def check_pipeline_code(place: object, index: Mapping[str, Any]) -> None:
    """Refuse a pipeline that is none of diffusers' own: it is named by its file. Raises CheckpointUnsupported."""
    if not isinstance(index.get("_class_name"), str):
        raise CheckpointUnsupported(f"{place} is a pipeline with code of its own, which is never run.")


def components(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of each component that is there."""
    entries = {name: entry for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    return {name: (entry[0], entry[1]) for name, entry in entries.items() if isinstance(entry[0], str)}


def model_classes(folder: Path, index: Mapping[str, Any]) -> dict[str, type]:
    """The classes of the components that hold weights. Raises CheckpointUnsupported where the libraries lack one."""
    found = {}
    for name, (library, class_name) in components(index).items():
        if not holds_weights(folder / name):
            continue
        with refusing(CheckpointUnsupported, f"The {name} of {folder} cannot be used"):
            component_class = getattr(_find_module(library), class_name, None)
        if not isinstance(component_class, type):
            raise CheckpointUnsupported(
                f"The {name} of {folder} is a {class_name}, which the installed {library} does not have; update it."
            )
        found[name] = component_class
    return found


def _find_module(library: str) -> ModuleType | None:
    """One of the two libraries, or a module of diffusers' own pipelines."""
    found = LIBRARIES.get(library) or getattr(diffusers.pipelines, library, None)
    known = isinstance(found, ModuleType) and found.__name__.partition(".")[0] in LIBRARIES
    return found if known else None
