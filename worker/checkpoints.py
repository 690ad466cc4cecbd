"""Checkpoints: diffusers folders, single files and hub ids, opened without running code and without noise."""

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizerFast

from configs.checkpoints import PIPELINES, Way, checkpoint_path, choose_way
from configs.models import find_model
from configs.parameters import AUTOCAST, PRECISIONS
from configs.weight_files import hash_files
from worker.errors import (
    CheckpointBroken,
    CheckpointMissing,
    CheckpointTooLarge,
    CheckpointUnsupported,
    DeviceRefused,
    refusing,
)
from worker.families import find_family, inpainting_channels
from worker.folder import Folder, check_pipeline_code, read_index
from worker.folder_files import check_files, read_json
from worker.footprint import Footprint, Placement
from worker.opened import OpenedCheckpoint
from worker.plain import PlainCheckpoint, find_pipeline, open_plain
from worker.single_file import load_single_file
from worker.text import TextEncoder
from worker.weight_file import open_weight_file

log = logging.getLogger(__name__)

CLASSES: Mapping[Way, Mapping[str, Any]] = {
    Way.SD: {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL},
    Way.SDXL: {
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
    },
}
"""The models of a checkpoint whose samples share steps."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint(OpenedCheckpoint):
    """An opened Stable Diffusion 1.x, 2.x or XL, its weights on the device."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler_config: Mapping[str, Any]
    footprint: Footprint
    text_encoder_2: Any = None
    tokenizer_2: Any = None
    zeros_for_empty: bool = False
    """Whether the UNet was trained with zeros for an empty negative prompt."""
    speedups: tuple[str, ...] = ()
    """What was changed in the models for speed, see `speed_up`."""

    @property
    def text_encoders(self) -> list[TextEncoder]:
        """One, or the two of SDXL."""
        pairs = [(self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)]
        return [TextEncoder(tokenizer, model) for tokenizer, model in pairs if model is not None]

    def decoding(self) -> AbstractContextManager[object]:
        """What the VAE is called in. SDXL's overflows in float16, if it does not say otherwise (`force_upcast`)."""
        upcast = self.text_encoder_2 is not None and self.vae.config.force_upcast
        return nullcontext() if upcast else self.computing()

    @property
    def factor(self) -> int:
        """Pixels of one latent's side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def native_size(self) -> tuple[int, int]:
        """Width and height in pixels of the images it was trained on."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return width * self.factor, height * self.factor


def pick_device(setting: str = "auto") -> torch.device:
    """The device a setting names; `auto` is the first CUDA card, else Apple's, else the CPU. Raises DeviceRefused."""
    if setting == "auto":
        return torch.device(_best_device())
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise DeviceRefused(f"{setting!r} is not a device; set device to auto, cpu, cuda or mps.") from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 0):
        raise DeviceRefused(f"There is no device {setting!r} on this machine; set device to auto or cpu.")
    return device


def pick_dtype(setting: str, device: torch.device, half: torch.dtype = torch.float16) -> torch.dtype:
    """Of the weights, by a setting; `auto` is `half` on CUDA and float32 elsewhere. Raises DeviceRefused."""
    if setting == "auto":
        return half if device.type == "cuda" else torch.float32
    if setting not in PRECISIONS:
        raise DeviceRefused(f"There is no dtype {setting!r}; choose auto, {', '.join(PRECISIONS)}.")
    dtype: torch.dtype = torch.float32 if setting == AUTOCAST else getattr(torch, setting)
    return dtype


def open_checkpoint(
    model: str, *, device: str = "auto", dtype: str = "auto", offload: bool = False
) -> Checkpoint | PlainCheckpoint:
    """Load a checkpoint onto the device. Every file is checked before the device is touched.

    dtype: `auto` or a precision. offload: whether text encoder and VAE are there only while they work.
    Raises CheckpointMissing, CheckpointBroken, CheckpointUnsupported, CheckpointTooLarge, DeviceRefused.
    """
    target = pick_device(device)
    with quiet():
        checkpoint = replace(_open(model, target, dtype), autocast=dtype == AUTOCAST)
    _check_registered(model, checkpoint)
    try:
        checkpoint.footprint.load(Placement.VISITING if offload else Placement.RESIDENT)
    except torch.OutOfMemoryError as error:
        raise CheckpointTooLarge(
            f"{model} does not fit in the memory of {checkpoint.device_name}, even with its weights outside; "
            "raise --vram, close what else uses the device, or set device to cpu."
        ) from error
    return checkpoint


def _open(model: str, device: torch.device, dtype: str) -> Checkpoint | PlainCheckpoint:
    """A checkpoint in main memory."""
    path = Path(checkpoint_path(model))
    if path.is_file():
        return _open_file(model, path, device, pick_dtype(dtype, device))
    folder = path if path.is_dir() else _download(model)
    index, unet = read_index(folder), folder / "unet" / "config.json"
    way = choose_way(index, read_json(unet) if unet.is_file() else {})
    if way is Way.PLAIN:
        return open_plain(model, folder, index, device, pick_dtype(dtype, device, half=_safe_half(device)))
    return _open_folder(model, folder, index, way, device, pick_dtype(dtype, device))


def _check_registered(model: str, checkpoint: OpenedCheckpoint) -> None:
    """A name stands for certain weights. Raises CheckpointBroken."""
    registered = find_model(model)
    if registered and registered.sha256 != checkpoint.hash:
        raise CheckpointBroken(
            f"{registered.path} is not what it was when {model} was added; `promptmill models verify {model}` compares."
        )


def _safe_half(device: torch.device) -> torch.dtype:
    """The half precision in which no pipeline's numbers overflow, where the card has it: since Ampere."""
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if modern else torch.float16


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _open_folder(
    name: str, path: Path, index: Mapping[str, Any], way: Way, device: torch.device, dtype: torch.dtype
) -> Checkpoint:
    _check_purpose(path, index)
    check_files(path, way)
    folder = Folder(path, CLASSES[way])
    models = folder.load(dtype)
    _say_upcast(name, folder.headers, device, dtype)
    for tokenizer in ("tokenizer", "tokenizer_2") if way is Way.SDXL else ("tokenizer",):
        with refusing(CheckpointBroken, f"The {tokenizer} in {path} cannot be loaded"):
            models[tokenizer] = CLIPTokenizerFast.from_pretrained(path / tokenizer, local_files_only=True)
    zeros = way is Way.SDXL and index.get("force_zeros_for_empty_prompt", True)
    scheduler_config = read_json(path / "scheduler" / "scheduler_config.json")
    parts = {**models, "scheduler_config": scheduler_config, "zeros_for_empty": zeros}
    return _assemble(way, parts, name=name, hash=folder.hash(), device=device, dtype=dtype)


def _check_purpose(folder: Path, index: Mapping[str, Any]) -> None:
    """Refuse what does something else than text to image, by its JSON files."""
    unet, vae = read_json(folder / "unet" / "config.json"), read_json(folder / "vae" / "config.json")
    latents = vae.get("latent_channels", 4)
    if unet.get("in_channels", 4) not in (latents, inpainting_channels(latents)):
        raise CheckpointUnsupported(
            f"{folder} is made for depth or edits; use a text-to-image or inpainting checkpoint."
        )
    if index.get("requires_aesthetics_score") or index.get("text_encoder") == [None, None]:
        raise CheckpointUnsupported(f"{folder} is a refiner, which needs another checkpoint's images; use the base.")


def _open_file(name: str, path: Path, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    file = open_weight_file(path)
    family = find_family(path, file.header)
    parts = load_single_file(file, family, dtype)
    _say_upcast(name, [dict(file.header)], device, dtype)
    return _assemble(family.way, parts, name=name, hash=hash_files([path]), device=device, dtype=dtype)


def _download(model: str) -> Path:
    """The local folder of a hub id, fetched where the hub may be asked, and only if it can be rendered."""
    if not HUB_ID.fullmatch(model):
        raise CheckpointMissing(
            f"There is no checkpoint {model!r}: no such file or folder, no name of `promptmill models` on this host, "
            "and not a hub id (owner/name)."
        )
    from diffusers import DiffusionPipeline

    problem = f"There is no file or folder {model!r}, and as a hub id it is not in the local cache"
    advice = "while HF_HUB_OFFLINE forbids to fetch it" if _offline() else "nor could it be fetched"
    with refusing(CheckpointMissing, f"{problem}, {advice}"):
        index = DiffusionPipeline.load_config(model, local_files_only=_offline())
        check_pipeline_code(model, index)
        if index["_class_name"] not in PIPELINES:
            find_pipeline(model, index)
        return Path(DiffusionPipeline.download(model, use_safetensors=True, local_files_only=_offline()))


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def _assemble(way: Way, parts: dict[str, Any], *, device: torch.device, dtype: torch.dtype, **facts: Any) -> Checkpoint:
    """A checkpoint of its models and the rest of its fields."""
    models = {name: parts[name].eval().requires_grad_(False).to(dtype=dtype) for name in CLASSES[way]}
    # SDXL's VAE overflows in float16, if it does not say otherwise (`force_upcast`).
    if way is Way.SDXL and dtype == torch.float16 and models["vae"].config.force_upcast:
        models["vae"].to(dtype=torch.float32)
    footprint = Footprint(models["unet"], [model for name, model in models.items() if name != "unet"], device)
    return Checkpoint(**{**parts, **models}, **facts, device=device, dtype=dtype, footprint=footprint)


def _say_upcast(name: str, headers: list[dict[str, Any]], device: torch.device, dtype: torch.dtype) -> None:
    stored = {entry["dtype"] for header in headers for entry in header.values()}
    if dtype == torch.float32 and stored & {"F16", "BF16"}:
        log.info("%s holds half-precision weights; they run in float32 on %s.", name, device)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress bars, logs and warnings off the terminal."""
    for logging_settings in (diffusers.utils.logging, transformers.utils.logging):
        logging_settings.set_verbosity_error()
        logging_settings.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
