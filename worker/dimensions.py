"""Configurations of a Stable Diffusion 1.x of another size, as the shapes of its weights tell them.

What no shape tells is as in the original: 8 heads of attention in the UNet, 64 numbers a head in the text encoder,
norms over 32 groups. Layouts: ldm/modules/diffusionmodules/openaimodel.py and model.py of the CompVis repository.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

Shapes = Mapping[str, list[int]]
"""Of one model's weights, by their names in it."""
Config = dict[str, Any]
HEAD = 64
"""Numbers of one head of CLIP's text encoder."""


@dataclass(slots=True)
class Level:
    """The blocks of a UNet between two changes of the latents' size."""

    channels: int = 0
    layers: int = 0
    crossed: bool = False
    """Whether it sees the prompt."""


def fit_unet(shapes: Shapes) -> Config:
    """Of a UNet."""
    levels = _levels(shapes)
    down = ["CrossAttnDownBlock2D" if level.crossed else "DownBlock2D" for level in levels]
    return {
        "block_out_channels": [level.channels for level in levels],
        "layers_per_block": levels[0].layers,
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "cross_attention_dim": next(shape[-1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")),
    }


def fit_vae(shapes: Shapes) -> Config:
    """Of a VAE."""
    levels = [
        shapes[f"encoder.down.{number}.block.0.conv2.weight"][0] for number in _run(shapes, r"encoder\.down\.(\d+)")
    ]
    return {
        "block_out_channels": levels,
        "layers_per_block": len(_run(shapes, r"encoder\.down\.0\.block\.(\d+)")),
        "down_block_types": ["DownEncoderBlock2D"] * len(levels),
        "up_block_types": ["UpDecoderBlock2D"] * len(levels),
    }


def fit_text_encoder(shapes: Shapes) -> Config:
    """Of CLIP's text encoder."""
    found = {name.removeprefix("transformer.").removeprefix("text_model."): shape for name, shape in shapes.items()}
    vocabulary, width = found["embeddings.token_embedding.weight"]
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": found["encoder.layers.0.mlp.fc1.weight"][0],
        "max_position_embeddings": found["embeddings.position_embedding.weight"][0],
        "num_attention_heads": max(1, width // HEAD),
        "num_hidden_layers": len(_run(found, r"encoder\.layers\.(\d+)")),
        "projection_dim": width,
    }


FITS: Mapping[str, Callable[[Shapes], Config]] = {
    "unet": fit_unet,
    "vae": fit_vae,
    "text_encoder": fit_text_encoder,
}
"""By the models' names in a diffusers folder."""


def _levels(shapes: Shapes) -> list[Level]:
    levels = [Level()]
    for number in count(1):
        place = f"input_blocks.{number}"
        if f"{place}.0.op.weight" in shapes:
            levels.append(Level())
        elif f"{place}.0.out_layers.3.weight" in shapes:
            levels[-1].channels = shapes[f"{place}.0.out_layers.3.weight"][0]
            levels[-1].layers += 1
            levels[-1].crossed |= f"{place}.1.norm.weight" in shapes
        else:
            break
    return levels


def _run(names: Iterable[str], pattern: str) -> list[int]:
    """The numbers that stand in the names in that place."""
    return sorted({int(found[1]) for name in names if (found := re.match(pattern, name))})
