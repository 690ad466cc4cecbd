"""Where a checkpoint is, and how large its images are; read from JSON alone, so that no weights are opened."""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

SHIPPED = Path(__file__).with_name("checkpoints")
DEMO = "demo"


def checkpoint_path(model: str) -> str:
    """The place of a model: the shipped folder of ``demo``, a path, or a hub id as it is."""
    return str(SHIPPED / DEMO) if model == DEMO else model


class Geometry(NamedTuple):
    """Sizes in pixels."""

    width: int
    """Of the images the checkpoint was trained on."""
    height: int
    factor: int
    """One latent's side: widths and heights are multiples of it."""


UNKNOWN = Geometry(512, 512, 8)


@lru_cache(maxsize=256)
def geometry(model: str) -> Geometry:
    """The sizes of a checkpoint's images: the UNet's ``sample_size`` (in latents) times the pixels of one latent.

    Where no diffusers folder says it, as for a single file or a hub id, what Stable Diffusion 1.x has.
    """
    folder = Path(checkpoint_path(model))
    try:
        side = json.loads((folder / "unet" / "config.json").read_bytes())["sample_size"]
        blocks = json.loads((folder / "vae" / "config.json").read_bytes())["block_out_channels"]
        height, width = side if isinstance(side, list) else (side, side)
        factor = 2 ** (len(blocks) - 1)
        return Geometry(int(width) * factor, int(height) * factor, factor)
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN


def native_size(model: str) -> tuple[int, int]:
    """Width and height in pixels of the images a checkpoint was trained on."""
    return geometry(model)[:2]
