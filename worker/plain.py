"""Checkpoints rendered by the diffusers pipeline they were saved as: any that makes images of text.

They are diffusers folders. Nothing is known of the pipeline's inside. Which one it is stands in `model_index.json`, and
what it takes in the signature of its call.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import torch

from configs.checkpoints import geometry
from worker.errors import CheckpointBroken, CheckpointMissing, CheckpointUnsupported, refusing
from worker.folder import Folder, model_classes
from worker.footprint import Footprint, Placement
from worker.opened import OpenedCheckpoint

TAKEN = frozenset({"prompt", "height", "width", "num_inference_steps", "generator", "output_type"})
"""Arguments without which a pipeline cannot make the image of a sample."""
FOREIGN = frozenset(
    {"num_frames", "frames", "video", "video_length", "mask_image", "control_image", "controlnet_conditioning_scale"}
)
"""Arguments of pipelines that make something else, or of something else."""
SENTENCEPIECE = ("sentencepiece", "google", "google.protobuf")
"""Modules that read SentencePiece models."""


class PipelineFootprint(Footprint):
    """The weights of a whole pipeline, placed by diffusers' own means."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        super().__init__(None, (), device)
        self._pipeline = pipeline

    def _place(self, placement: Placement) -> None:
        self._pipeline.remove_all_hooks()
        if placement is Placement.RESIDENT or self.device.type == "cpu":
            self._pipeline.to(self.device)
        elif placement is Placement.VISITING:
            self._pipeline.enable_model_cpu_offload(device=self.device)
        else:
            self._pipeline.enable_sequential_cpu_offload(device=self.device)
        self.placement = placement


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlainCheckpoint(OpenedCheckpoint):
    """An opened pipeline of any kind."""

    pipeline: Any
    factor: int
    """Widths and heights in pixels are multiples of it."""
    footprint: PipelineFootprint


def open_plain(
    name: str, path: Path, index: Mapping[str, Any], device: torch.device, dtype: torch.dtype
) -> PlainCheckpoint:
    """The pipeline of a diffusers folder with that `model_index.json`, in main memory. Raises CheckpointRefused."""
    pipeline_class = find_pipeline(path, index)
    if getattr(pipeline_class, "_load_connected_pipes", False) and (path / "README.md").is_file():
        raise CheckpointUnsupported(f"{path} would have parts of other checkpoints fetched; save it as a whole.")
    _check_tokenizers(path)
    folder = Folder(path, model_classes(path, index))
    models = folder.load(dtype)
    with refusing(CheckpointBroken, f"{path} cannot be opened as a {pipeline_class.__name__}"):
        pipeline = pipeline_class.from_pretrained(path, local_files_only=True, torch_dtype=dtype, **models)
    pipeline.set_progress_bar_config(disable=True)
    return PlainCheckpoint(
        name=name,
        hash=folder.hash(),
        pipeline=pipeline,
        factor=geometry(str(path)).factor,
        footprint=PipelineFootprint(pipeline, device),
        device=device,
        dtype=dtype,
    )


def takes(pipeline_class: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of a pipeline's call."""
    return inspect.signature(pipeline_class.__call__).parameters


def find_pipeline(place: object, index: Mapping[str, Any]) -> Any:
    """The class of a pipeline that makes images of text and of nothing else. Raises CheckpointUnsupported."""
    kind = index["_class_name"]
    pipeline_class = getattr(diffusers, kind, None)
    if pipeline_class is None:
        raise CheckpointUnsupported(f"{place} is a {kind}, which the installed diffusers does not have; update it.")
    if not isinstance(pipeline_class, type) or not makes_images_of_text(pipeline_class):
        raise CheckpointUnsupported(f"{place} is a {kind}, which does not make images of text alone.")
    return pipeline_class


def _check_tokenizers(folder: Path) -> None:
    """Some are SentencePiece models alone, which transformers reads with two packages. Raises CheckpointMissing."""
    for path in folder.glob("*/*.model"):
        if not (path.with_name("tokenizer.json").is_file() or all(map(find_spec, SENTENCEPIECE))):
            raise CheckpointMissing(
                f"The {path.parent.name} of {folder} needs the packages sentencepiece and protobuf; "
                "install them with pip install 'promptmill[pipelines]'."
            )


def makes_images_of_text(pipeline_class: type) -> bool:
    """By the signature of its call, where diffusers does not list it."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    if not issubclass(pipeline_class, diffusers.DiffusionPipeline):
        return False
    taken = takes(pipeline_class)
    listed = pipeline_class in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()
    return taken.keys() >= TAKEN and not FOREIGN & taken.keys() and (listed or _needs_text_alone(pipeline_class))


def _needs_text_alone(pipeline_class: type) -> bool:
    """Priors make embeddings, and some that make videos know no number of frames."""
    taken = dict(list(takes(pipeline_class).items())[1:])
    needed = [name for name, parameter in taken.items() if parameter.default is parameter.empty]
    named = any(word in pipeline_class.__name__ for word in ("Prior", "Video"))
    return not named and "image" not in taken and set(needed) <= {"prompt", "args", "kwargs"}
