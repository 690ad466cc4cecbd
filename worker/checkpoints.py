"""Checkpoints: diffusers folders, single .safetensors files and hub ids, opened without pickles and without noise."""

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from configs.checkpoints import checkpoint_path
from worker.errors import (
    CheckpointBroken,
    CheckpointMissing,
    CheckpointTooLarge,
    CheckpointUnsupported,
    DeviceRefused,
    refusing,
)
from worker.footprint import Footprint, Placement
from worker.single_file import find_family, load_single_file
from worker.text import TextEncoder
from worker.weights import PICKLES, find_weights, hash_files, read_header

log = logging.getLogger(__name__)

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
COMPONENTS = {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL}
"""In the order in which their weights are hashed."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """An opened Stable Diffusion 1.x or 2.x, its weights on the device."""

    name: str
    hash: str
    """sha256 over the weight files."""
    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler_config: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    footprint: Footprint
    text_encoder_2: Any = None
    tokenizer_2: Any = None
    zeros_for_empty: bool = False
    """Whether the UNet was trained with zeros for an empty negative prompt."""

    @property
    def text_encoders(self) -> list[TextEncoder]:
        """One, or the two of SDXL."""
        pairs = [(self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)]
        return [TextEncoder(tokenizer, model) for tokenizer, model in pairs if model is not None]

    @property
    def short_hash(self) -> str:
        """The first ten digits: what A1111 calls the model hash."""
        return self.hash[:10]

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

    @property
    def device_name(self) -> str:
        """`cpu`, or the card's own name."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)

    @property
    def dtype_name(self) -> str:
        """`float16`, `float32` and the like."""
        return str(self.dtype).removeprefix("torch.")


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


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The number format a setting names; `auto` is float16 on CUDA and float32 elsewhere. Raises DeviceRefused."""
    if setting == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if setting not in ("float16", "bfloat16", "float32"):
        raise DeviceRefused(f"There is no dtype {setting!r}; choose auto, float16, bfloat16 or float32.")
    dtype: torch.dtype = getattr(torch, setting)
    return dtype


def open_checkpoint(model: str, *, device: str = "auto", dtype: str = "auto", offload: bool = False) -> Checkpoint:
    """Load a checkpoint onto the device. Every file is checked before the device is touched.

    offload: whether text encoder and VAE are there only while they work.
    Raises CheckpointMissing, CheckpointBroken, CheckpointUnsupported, CheckpointTooLarge, DeviceRefused.
    """
    target = pick_device(device)
    with _quiet():
        checkpoint = _open(model, target, pick_dtype(dtype, target))
    try:
        checkpoint.footprint.load(Placement.VISITING if offload else Placement.RESIDENT)
    except torch.OutOfMemoryError as error:
        raise CheckpointTooLarge(
            f"{model} does not fit in the memory of {checkpoint.device_name}, even with its weights outside; "
            "raise --vram, close what else uses the device, or set device to cpu."
        ) from error
    return checkpoint


def _open(model: str, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """A checkpoint in main memory."""
    path = Path(checkpoint_path(model))
    if path.is_dir():
        return _open_folder(model, path, device, dtype)
    if path.is_file():
        return _open_file(model, path, device, dtype)
    return _open_folder(model, _download(model), device, dtype)


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _open_folder(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    _check_pipeline(folder)
    weights = {component: find_weights(folder / component) for component in COMPONENTS}
    paths = [path for files, _ in weights.values() for path in files]
    headers = [read_header(path) for path in paths]
    models = {component: _load(folder, component, variant, dtype) for component, (_, variant) in weights.items()}
    _say_upcast(name, headers, device, dtype)
    with refusing(CheckpointBroken, f"The tokenizer in {folder} cannot be loaded"):
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    scheduler_config = _read_json(folder / "scheduler" / "scheduler_config.json")
    return _assemble(name, hash_files(paths), {**models, "tokenizer": tokenizer}, scheduler_config, device, dtype)


def _check_pipeline(folder: Path) -> None:
    """Refuse what is no Stable Diffusion 1.x or 2.x for text to image, by its JSON files."""
    kind = _read_json(folder / "model_index.json").get("_class_name")
    if kind not in PIPELINES:
        raise CheckpointUnsupported(
            f"{folder} is a {kind}; only Stable Diffusion 1.x and 2.x checkpoints are rendered."
        )
    unet, vae = _read_json(folder / "unet" / "config.json"), _read_json(folder / "vae" / "config.json")
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        raise CheckpointUnsupported(f"{folder} is made for inpainting or depth; use a text-to-image checkpoint.")
    if unet.get("time_cond_proj_dim") or unet.get("class_embed_type") or unet.get("addition_embed_type"):
        raise CheckpointUnsupported(
            f"The UNet of {folder} wants conditions beside the prompt; use Stable Diffusion 1.x or 2.x."
        )


def _load(folder: Path, component: str, variant: str | None, dtype: torch.dtype) -> Any:
    """A component on the CPU; a weight the file lacks is an error, not a random number."""
    model_class: Any = COMPONENTS[component]
    options: dict[str, Any] = {"use_safetensors": True, "variant": variant, "local_files_only": True}
    options["dtype" if model_class is CLIPTextModel else "torch_dtype"] = dtype
    with refusing(CheckpointBroken, f"The {component} of {folder} cannot be loaded"):
        model, info = model_class.from_pretrained(folder, subfolder=component, output_loading_info=True, **options)
    if missing := sorted(info["missing_keys"]):
        raise CheckpointBroken(f"The {component} of {folder} lacks weights, {missing[0]} for one; download it again.")
    return model


def _open_file(name: str, path: Path, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    if path.suffix.lower() in PICKLES:
        raise CheckpointUnsupported(
            f"{path} is a pickle, which can run code when opened; convert it to .safetensors or get it in that format."
        )
    if path.suffix.lower() != ".safetensors":
        raise CheckpointUnsupported(
            f"{path} is no checkpoint; give a .safetensors file, a diffusers folder or a hub id."
        )
    header = read_header(path)
    models, scheduler_config = load_single_file(path, find_family(path, header), dtype)
    _say_upcast(name, [header], device, dtype)
    return _assemble(name, hash_files([path]), models, scheduler_config, device, dtype)


def _download(model: str) -> Path:
    """The local folder of a hub id, fetched where the hub may be asked."""
    if not HUB_ID.fullmatch(model):
        raise CheckpointMissing(
            f"There is no checkpoint {model!r}: no such file or folder, and not a hub id (owner/name)."
        )
    from diffusers import DiffusionPipeline

    problem = f"There is no file or folder {model!r}, and as a hub id it is not in the local cache"
    advice = "while HF_HUB_OFFLINE forbids to fetch it" if _offline() else "nor could it be fetched"
    with refusing(CheckpointMissing, f"{problem}, {advice}"):
        return Path(DiffusionPipeline.download(model, use_safetensors=True, local_files_only=_offline()))


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def _assemble(
    name: str,
    digest: str,
    models: dict[str, Any],
    scheduler_config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
) -> Checkpoint:
    for component in COMPONENTS:
        models[component].eval().requires_grad_(False).to(dtype=dtype)
    config = {key: value for key, value in scheduler_config.items() if not key.startswith("_")}
    visitors = [models[component] for component in COMPONENTS if component != "unet"]
    footprint = Footprint(models["unet"], visitors, device)
    return Checkpoint(
        name=name, hash=digest, scheduler_config=config, device=device, dtype=dtype, footprint=footprint, **models
    )


def _say_upcast(name: str, headers: list[dict[str, Any]], device: torch.device, dtype: torch.dtype) -> None:
    stored = {entry["dtype"] for header in headers for entry in header.values()}
    if dtype == torch.float32 and stored & {"F16", "BF16"}:
        log.info("%s holds half-precision weights; they run in float32 on %s.", name, device)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointBroken(f"{path} is missing, so this is no complete diffusers folder.") from error
    except (OSError, ValueError) as error:
        raise CheckpointBroken(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointBroken(f"{path} does not hold a JSON object; download it again.")
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' progress bars, logs and warnings off the terminal."""
    for logging_settings in (diffusers.utils.logging, transformers.utils.logging):
        logging_settings.set_verbosity_error()
        logging_settings.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
