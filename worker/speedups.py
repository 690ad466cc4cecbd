"""Changes to the models of a checkpoint that make its calls faster, and change a picture by no more than rounding."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, FusedAttnProcessor2_0
from torch import Tensor

from configs.settings import Switch
from worker.checkpoints import Checkpoint
from worker.footprint import Placement

PARTS = {"to_qkv": ("to_q", "to_k", "to_v"), "to_kv": ("to_k", "to_v")}
"""The projections that a fused one does at once: of self-attention, and of cross-attention."""


def speed_up(checkpoint: Checkpoint, *, channels_last: Switch, fused_projections: Switch) -> Checkpoint:
    """The checkpoint with its models changed in place, and the changes named in its `speedups`."""
    if checkpoint.footprint.placement is Placement.STREAMED:
        # What streams the weights holds on to each as it is.
        return checkpoint
    done = [*checkpoint.speedups]
    if is_on(channels_last, checkpoint) and "channels_last" not in done:
        for model in (checkpoint.unet, checkpoint.vae):
            model.to(memory_format=torch.channels_last)
        done.append("channels_last")
    if is_on(fused_projections, checkpoint) and fuse_projections(checkpoint.unet):
        done.append("fused_projections")
    return replace(checkpoint, speedups=tuple(done))


def is_on(switch: Switch, checkpoint: Checkpoint) -> bool:
    """Whether a speed setting holds. `auto` leaves float32 alone: who asks for it asks for its bits."""
    half = checkpoint.dtype in (torch.float16, torch.bfloat16)
    return switch == "on" or (switch == "auto" and checkpoint.device.type == "cuda" and half)


def fuse_projections(unet: Any) -> bool:
    """Let each attention make its projections in one product; False where they are of another kind.

    As diffusers' `fuse_qkv_projections`, but for the weights: that keeps the unfused ones too.
    """
    if any(type(processor) is not AttnProcessor2_0 for processor in unet.attn_processors.values()):
        return False
    for module in unet.modules():
        if isinstance(module, Attention):
            module.fuse_projections()
            for name in PARTS["to_kv" if module.is_cross_attention else "to_qkv"]:
                delattr(module, name)
    unet.set_attn_processor(FusedAttnProcessor2_0())
    unet.requires_grad_(False)
    return True


def split_projections(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, the fused among them as the ones that they were made of."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        path, _, kind = name.rpartition(".")
        layer, _, last = path.rpartition(".")
        if parts := PARTS.get(last):
            found |= {
                f"{layer}.{part}.{kind}": piece for part, piece in zip(parts, tensor.chunk(len(parts)), strict=True)
            }
        else:
            found[name] = tensor
    return found
