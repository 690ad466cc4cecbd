"""Families: which architecture a single file is of, told by its keys and shapes alone. Nothing is loaded for it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.checkpoints import SHIPPED, Way
from configs.clip import END
from worker.dimensions import FITS
from worker.errors import CheckpointUnsupported

UNET, EMA, VAE = "model.diffusion_model.", "model_ema.", "first_stage_model."
TEXT = {Way.SD: ("cond_stage_model.",), Way.SDXL: ("conditioner.embedders.0.", "conditioner.embedders.1.")}
"""Where the text encoders are."""
FIRST_LAYER = UNET + "input_blocks.0.0.weight"
CROSS_ATTENTION = ".attn2.to_k.weight"
"""How the keys of the UNet end whose shapes tell the width of the text embeddings."""
OTHERS = {
    ".lora_": "a LoRA, which changes a checkpoint and is none",
    "lora_unet_": "a LoRA, which changes a checkpoint and is none",
    "lora_te": "a LoRA, which changes a checkpoint and is none",
    "hada_w1": "a LoRA, which changes a checkpoint and is none",
    "control_model.": "a ControlNet, which guides a checkpoint and is none",
    "controlnet_cond_embedding.": "a ControlNet, which guides a checkpoint and is none",
    "string_to_param": "an embedding of a word, and no checkpoint",
    "emb_params": "an embedding of a word, and no checkpoint",
    "double_blocks.": "a Flux transformer; give the diffusers folder or hub id of the checkpoint",
    "joint_blocks.": "a Stable Diffusion 3; give its diffusers folder or hub id",
    "down_blocks.": "one model out of a diffusers folder; give the folder",
    "text_model.encoder.": "a text encoder alone, and no checkpoint",
}
"""What else lies under a checkpoint's name, by a part of its keys."""
REFINER = 1280
"""That width in SDXL's refiner."""


@dataclass(frozen=True, slots=True)
class Family:
    """What all files of one architecture have in common."""

    folder: Path
    """The configurations, as in a diffusers folder."""
    way: Way = Way.SD
    pads: tuple[int, ...] = (END,)
    """The token that fills up a short prompt, by text encoder."""

    other_size: bool = False
    """Whether the file's shapes tell the sizes of its models."""

    @property
    def models(self) -> list[str]:
        """By their names in a diffusers folder."""
        return sorted(config.parent.name for config in self.folder.glob("*/config.json"))

    @property
    def prefixes(self) -> dict[str, str]:
        """How the keys of each model begin in a file."""
        return {"unet": UNET, "vae": VAE, **dict(zip(("text_encoder", "text_encoder_2"), TEXT[self.way], strict=False))}

    def config(self, name: str, header: Mapping[str, Any]) -> dict[str, Any]:
        """Of a model, by its name in a diffusers folder."""
        config, prefix = read_config(self.folder / name / "config.json"), self.prefixes[name]
        if self.other_size:
            shapes = {key[len(prefix) :]: entry["shape"] for key, entry in header.items() if key.startswith(prefix)}
            config.update(FITS[name](shapes))
        return config


FAMILIES = {
    768: Family(SHIPPED / "sd-v1"),
    1024: Family(SHIPPED / "sd-v2", pads=(0,)),
    2048: Family(SHIPPED / "sdxl", Way.SDXL, (END, 0)),
}
"""By the width of the text embeddings."""
OTHER_SIZE = Family(SHIPPED / "sd-v1", other_size=True)
CLIP_WIDTH = re.compile(r"cond_stage_model\.transformer\.(?:text_model\.)?embeddings\.token_embedding\.weight")
"""The key whose shape tells the width of CLIP's text encoder."""


def find_family(path: Path, header: Mapping[str, Any]) -> Family:
    """The family of a file, by its header. Raises CheckpointUnsupported."""
    if any(key.startswith(EMA) for key in header) and FIRST_LAYER not in header:
        raise CheckpointUnsupported(
            f"{path} has only the averaged (EMA) weights of training; get the file that is made for use."
        )
    width = next(
        (header[key]["shape"][-1] for key in header if key.startswith(UNET) and key.endswith(CROSS_ATTENTION)), 0
    )
    if width == REFINER:
        raise CheckpointUnsupported(f"{path} is a refiner, which needs another checkpoint's images; use the base.")
    clip_width = next((header[key]["shape"][-1] for key in header if CLIP_WIDTH.fullmatch(key)), None)
    family = FAMILIES.get(width) or (OTHER_SIZE if width == clip_width else None)
    if family is None or not _is_whole(header, family):
        raise CheckpointUnsupported(f"{path} is {_name_kind(header)}.")
    latents = read_config(family.folder / "unet" / "config.json")["in_channels"]
    if header[FIRST_LAYER]["shape"][1] not in (latents, inpainting_channels(latents)):
        raise CheckpointUnsupported(f"{path} is made for depth or edits; use a text-to-image or inpainting checkpoint.")
    if "edm_mean" in header:
        raise CheckpointUnsupported(f"{path} is trained on another kind of noise (EDM); get it as a diffusers folder.")
    return family


def inpainting_channels(latents: int) -> int:
    """Of the input of a UNet for inpainting: latents, mask, and the latents of the masked image."""
    return 2 * latents + 1


def _name_kind(header: Mapping[str, Any]) -> str:
    """What a file is that is no checkpoint."""
    has_unet = any(key.startswith(UNET) for key in header)
    known = next((words for part, words in OTHERS.items() for key in header if part in key), None)
    if known and not has_unet:
        return known
    if not has_unet and any(key.startswith((VAE, "encoder.", "decoder.")) for key in header):
        return "a VAE alone, and no checkpoint"
    return (
        "no full Stable Diffusion 1.x, 2.x or XL checkpoint (UNet, VAE and text encoders); "
        "other kinds are opened as diffusers folders"
    )


def _is_whole(header: Mapping[str, Any], family: Family) -> bool:
    parts = (VAE, *TEXT[family.way])
    return FIRST_LAYER in header and all(any(key.startswith(part) for key in header) for part in parts)


def read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config
