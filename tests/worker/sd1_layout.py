"""The weights of `sd-v1-4.ckpt` by name and shape, as ldm/modules of the CompVis repository name them; no numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

Shapes = Iterator[tuple[str, tuple[int, ...]]]
TIME, TEXT = 1280, 768


class HollowFile:
    """A file of all of them and of what training left beside them, without memory: a weight is its number all over."""

    def __init__(self) -> None:
        self.path = Path("sd-v1-4.ckpt")
        self.weights = weights()
        ema = {f"model_ema.{key.removeprefix('model.').replace('.', '')}": (1,) for key in self.weights}
        beside = {"cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77), "betas": (1000,), **ema}
        self.header: dict[str, Any] = {
            key: {"dtype": "F32", "shape": list(shape)} for key, shape in {**self.weights, **beside}.items()
        }

    def read(self, name: str) -> torch.Tensor:
        if name not in self.weights:
            return torch.arange(77)[None]
        return torch.tensor(float(list(self.weights).index(name))).expand(self.weights[name])


def weights() -> dict[str, tuple[int, ...]]:
    parts = {"model.diffusion_model": unet(), "first_stage_model": vae(), "cond_stage_model.transformer": clip()}
    return {f"{part}.{name}": shape for part, found in parts.items() for name, shape in found}


def layer(name: str, *shape: int) -> Shapes:
    """A weight, and a bias for each of what comes out."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def resnet(name: str, into: int, out: int) -> Shapes:
    yield from layer(f"{name}.in_layers.0", into)
    yield from layer(f"{name}.in_layers.2", out, into, 3, 3)
    yield from layer(f"{name}.emb_layers.1", out, TIME)
    yield from layer(f"{name}.out_layers.0", out)
    yield from layer(f"{name}.out_layers.3", out, out, 3, 3)
    if into != out:
        yield from layer(f"{name}.skip_connection", out, into, 1, 1)


def transformer(name: str, width: int) -> Shapes:
    yield from layer(f"{name}.norm", width)
    yield from layer(f"{name}.proj_in", width, width, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, seen in (("attn1", width), ("attn2", TEXT)):
        yield f"{block}.{attention}.to_q.weight", (width, width)
        for part in ("to_k", "to_v"):
            yield f"{block}.{attention}.{part}.weight", (width, seen)
        yield from layer(f"{block}.{attention}.to_out.0", width, width)
    yield from layer(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from layer(f"{block}.ff.net.2", width, 4 * width)
    for norm in ("norm1", "norm2", "norm3"):
        yield from layer(f"{block}.{norm}", width)
    yield from layer(f"{name}.proj_out", width, width, 1, 1)


def unet() -> Shapes:
    """Four levels of two resnets, three on the way back; all but the lowest see the text."""
    yield from layer("time_embed.0", TIME, 320)
    yield from layer("time_embed.2", TIME, TIME)
    yield from layer("input_blocks.0.0", 320, 4, 3, 3)
    widths, kept, place = (320, 640, 1280, 1280), [320], 1
    for level, width in enumerate(widths):
        for _ in range(2):
            yield from resnet(f"input_blocks.{place}.0", kept[-1], width)
            yield from transformer(f"input_blocks.{place}.1", width) if level < 3 else ()
            kept, place = [*kept, width], place + 1
        if level < 3:
            yield from layer(f"input_blocks.{place}.0.op", width, width, 3, 3)
            kept, place = [*kept, width], place + 1
    yield from resnet("middle_block.0", 1280, 1280)
    yield from transformer("middle_block.1", 1280)
    yield from resnet("middle_block.2", 1280, 1280)
    width = 1280
    for place in range(12):
        level = 3 - place // 3
        yield from resnet(f"output_blocks.{place}.0", width + kept.pop(), width := widths[level])
        yield from transformer(f"output_blocks.{place}.1", width) if level < 3 else ()
        if place % 3 == 2 and level:
            yield from layer(f"output_blocks.{place}.{2 if level < 3 else 1}.conv", width, width, 3, 3)
    yield from layer("out.0", 320)
    yield from layer("out.2", 4, 320, 3, 3)


def vae() -> Shapes:
    for part, ends, blocks in (("encoder", (3, 8), 2), ("decoder", (4, 3), 3)):
        widths = [128, 256, 512, 512]
        way = "down" if part == "encoder" else "up"
        levels = range(4) if way == "down" else range(3, -1, -1)
        width = widths[levels[0]]
        yield from layer(f"{part}.conv_in", width, ends[0], 3, 3)
        for level in levels:
            for block in range(blocks):
                yield from vae_resnet(f"{part}.{way}.{level}.block.{block}", width, width := widths[level])
            if level != levels[-1]:
                yield from layer(f"{part}.{way}.{level}.{way}sample.conv", width, width, 3, 3)
        yield from vae_resnet(f"{part}.mid.block_1", 512, 512)
        yield from layer(f"{part}.mid.attn_1.norm", 512)
        for name in ("q", "k", "v", "proj_out"):
            yield from layer(f"{part}.mid.attn_1.{name}", 512, 512, 1, 1)
        yield from vae_resnet(f"{part}.mid.block_2", 512, 512)
        yield from layer(f"{part}.norm_out", width)
        yield from layer(f"{part}.conv_out", ends[1], width, 3, 3)
    yield from layer("quant_conv", 8, 8, 1, 1)
    yield from layer("post_quant_conv", 4, 4, 1, 1)


def vae_resnet(name: str, into: int, out: int) -> Shapes:
    yield from layer(f"{name}.norm1", into)
    yield from layer(f"{name}.conv1", out, into, 3, 3)
    yield from layer(f"{name}.norm2", out)
    yield from layer(f"{name}.conv2", out, out, 3, 3)
    if into != out:
        yield from layer(f"{name}.nin_shortcut", out, into, 1, 1)


def clip() -> Shapes:
    yield "text_model.embeddings.token_embedding.weight", (49408, TEXT)
    yield "text_model.embeddings.position_embedding.weight", (77, TEXT)
    for number in range(12):
        block = f"text_model.encoder.layers.{number}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from layer(f"{block}.self_attn.{part}", TEXT, TEXT)
        yield from layer(f"{block}.layer_norm1", TEXT)
        yield from layer(f"{block}.mlp.fc1", 4 * TEXT, TEXT)
        yield from layer(f"{block}.mlp.fc2", TEXT, 4 * TEXT)
        yield from layer(f"{block}.layer_norm2", TEXT)
    yield from layer("text_model.final_layer_norm", TEXT)
