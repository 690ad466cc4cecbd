"""Where a checkpoint is, what renders it and how large its images are; read from JSON alone: no weights are opened."""

import json
import os
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from configs.models import find_model

SHIPPED = Path(__file__).with_name("checkpoints")
DEMO = "demo"
DEMO_PLACE = str(SHIPPED / DEMO)


class Way(Enum):
    """How a checkpoint is rendered; the value is the words for it."""

    SD = "Stable Diffusion 1.x or 2.x"
    SDXL = "Stable Diffusion XL"
    PLAIN = "another pipeline"
    """By the diffusers pipeline it was saved as. Of the others, unlike samples share every step."""


class Geometry(NamedTuple):
    """Sizes in pixels."""

    width: int
    """Of the images the checkpoint was trained on."""
    height: int
    factor: int
    """Widths and heights are multiples of it: one latent's side, or where a transformer denoises, one token's."""


UNKNOWN = Geometry(512, 512, 8)
SDXL = Geometry(1024, 1024, 8)
PIPELINES = {
    "StableDiffusionPipeline": Way.SD,
    "StableDiffusionImg2ImgPipeline": Way.SD,
    "StableDiffusionInpaintPipeline": Way.SD,
    "StableDiffusionXLPipeline": Way.SDXL,
    "StableDiffusionXLImg2ImgPipeline": Way.SDXL,
    "StableDiffusionXLInpaintPipeline": Way.SDXL,
}
CLASSES = {
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
}
ADDED = {Way.SD: None, Way.SDXL: "text_time"}
"""What conditions the UNet beside the prompt."""
FOREIGN_SCHEDULERS = ("EDM", "FlowMatch", "ConsistencyModels")
"""How classes begin whose noise is not that of Stable Diffusion: no other sampler can stand in for them."""
DIT_LATENTS = 128
"""A side in latents, where a transformer's configuration names none: what the pipelines of diffusers take."""
HEADER_LIMIT = 100_000_000
"""Bytes; the safetensors format's own limit."""


def checkpoint_path(model: str) -> str:
    """The place of a model: the shipped folder of ``demo``, that of a name, a path, or a hub id as it is."""
    if model == DEMO:
        return DEMO_PLACE
    found = find_model(model)
    return found.path if found else model


def choose_way(index: Mapping[str, Any], unet: Mapping[str, Any]) -> Way:
    """How the checkpoint with that ``model_index.json`` and ``unet/config.json`` (or nothing) is rendered."""
    way = PIPELINES.get(str(index.get("_class_name")), Way.PLAIN)
    found = {name: entry[1] for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    known = all(found[name] in (class_name, None) for name, class_name in CLASSES.items() if name in found)
    foreign = str(found.get("scheduler")).startswith(FOREIGN_SCHEDULERS)
    conditioned = unet.get("time_cond_proj_dim") or unet.get("class_embed_type")
    if known and not foreign and not conditioned and unet.get("addition_embed_type") == ADDED.get(way):
        return way
    return Way.PLAIN


def way_of(model: str) -> Way | None:
    """How a model is rendered; None where it cannot be known here."""
    return _way_of(checkpoint_path(model))


@lru_cache(maxsize=256)
def _way_of(place: str) -> Way | None:
    folder = local_place(place)
    try:
        index = _read(folder / "model_index.json")
    except (OSError, ValueError):
        return Way.SDXL if _is_sdxl_file(folder) else None
    return choose_way(index, _read_if_there(folder / "unet" / "config.json"))


def geometry(model: str) -> Geometry:
    """The sizes of a checkpoint's images. Where nothing here tells them, what Stable Diffusion 1.x has."""
    return _geometry(checkpoint_path(model))


@lru_cache(maxsize=256)
def _geometry(place: str) -> Geometry:
    folder = local_place(place)
    if _is_sdxl_file(folder):
        return SDXL
    try:
        vae = _read_if_there(folder / "vae" / "config.json") or _read(folder / "movq" / "config.json")
        if (folder / "unet" / "config.json").is_file():
            return _sizes(_read(folder / "unet" / "config.json")["sample_size"], _factor(vae))
        return _dit_sizes(_read(folder / "transformer" / "config.json"), _factor(vae))
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN


@lru_cache(maxsize=256)
def own_scheduler(model: str) -> str | None:
    """The class of the scheduler that a diffusers folder was saved with; None where it cannot be known here."""
    try:
        place = local_place(checkpoint_path(model))
        return str(_read(place / "scheduler" / "scheduler_config.json").get("_class_name"))
    except (OSError, ValueError):
        return None


def native_size(model: str) -> tuple[int, int]:
    """Width and height in pixels of the images a checkpoint was trained on."""
    return geometry(model)[:2]


def _dit_sizes(transformer: Mapping[str, Any], factor: int) -> Geometry:
    """A transformer sees patches of latents. Behind VAEs of 8 pixels a latent they are of at least 2 × 2."""
    side = transformer.get("sample_size") or DIT_LATENTS
    patch = transformer.get("patch_size") or 1
    patch = max(patch[-1] if isinstance(patch, list) else patch, 2 if factor <= 8 else 1)
    return _sizes(side, factor)._replace(factor=factor * patch)


def _sizes(side: Any, factor: int) -> Geometry:
    """Of a side in latents, or of two, the height first."""
    height, width = side if isinstance(side, list) else (side, side)
    return Geometry(int(width) * factor, int(height) * factor, factor)


def _factor(vae: Mapping[str, Any]) -> int:
    """Pixels of one latent's side, by whatever the kind of VAE calls its levels."""
    for name in ("block_out_channels", "encoder_block_out_channels"):
        if name in vae:
            return int(2 ** (len(vae[name]) - 1))
    return int(2 ** len(vae["temperal_downsample"]))


def local_place(place: str) -> Path:
    """The folder or file of a checkpoint's place; of a hub id, the one in the hub's cache."""
    path = Path(place)
    cache = _hub_cache() / f"models--{place.replace('/', '--')}"
    try:
        if path.exists() or path.is_absolute():
            return path
        return cache / "snapshots" / (cache / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return path


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it has fetched."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()


def _is_sdxl_file(path: Path) -> bool:
    """Whether the header of a safetensors file names SDXL's second text encoder. The format: `worker/weights.py`."""
    if path.suffix.lower() != ".safetensors":
        return False
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return b'"conditioner.embedders.1.' in file.read(min(length, HEADER_LIMIT))
    except (OSError, ValueError):
        return False


def _read_if_there(path: Path) -> dict[str, Any]:
    return _read(path) if path.is_file() else {}


def _read(path: Path) -> dict[str, Any]:
    """Raises OSError, ValueError."""
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return content
