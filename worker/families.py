"""Families: which architecture a single file is of, told by its keys and shapes alone. Nothing is loaded for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.checkpoints import SHIPPED, Way
from configs.clip import END
from worker.errors import CheckpointUnsupported

UNET, EMA, VAE = "model.diffusion_model.", "model_ema.", "first_stage_model."
TEXT = {Way.SD: ("cond_stage_model.",), Way.SDXL: ("conditioner.embedders.0.", "conditioner.embedders.1.")}
"""Where the text encoders are."""
FIRST_LAYER = UNET + "input_blocks.0.0.weight"
CROSS_ATTENTION = ".attn2.to_k.weight"
"""How the keys of the UNet end whose shapes tell the width of the text embeddings."""
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

    @property
    def models(self) -> list[str]:
        """By their names in a diffusers folder."""
        return sorted(config.parent.name for config in self.folder.glob("*/config.json"))

    @property
    def prefixes(self) -> dict[str, str]:
        """How the keys of each model begin in a file."""
        return {"unet": UNET, "vae": VAE, **dict(zip(("text_encoder", "text_encoder_2"), TEXT[self.way], strict=False))}


FAMILIES = {
    768: Family(SHIPPED / "sd-v1"),
    1024: Family(SHIPPED / "sd-v2", pads=(0,)),
    2048: Family(SHIPPED / "sdxl", Way.SDXL, (END, 0)),
}
"""By the width of the text embeddings."""


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
    family = FAMILIES.get(width)
    if family is None or not _is_whole(header, family):
        raise CheckpointUnsupported(
            f"{path} is no full Stable Diffusion 1.x, 2.x or XL checkpoint (UNet, VAE and text encoders); "
            "other kinds are opened as diffusers folders."
        )
    if header[FIRST_LAYER]["shape"][1] != read_config(family.folder / "unet" / "config.json")["in_channels"]:
        raise CheckpointUnsupported(f"{path} is made for inpainting or depth; use a text-to-image checkpoint.")
    if "edm_mean" in header:
        raise CheckpointUnsupported(f"{path} is trained on another kind of noise (EDM); get it as a diffusers folder.")
    return family


def _is_whole(header: Mapping[str, Any], family: Family) -> bool:
    parts = (VAE, *TEXT[family.way])
    return FIRST_LAYER in header and all(any(key.startswith(part) for key in header) for part in parts)


def read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config
