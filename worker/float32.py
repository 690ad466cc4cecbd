"""A checkpoint in float32 beside the one in half precision, for an image whose numbers went out of range.

The original's models stay as and where they are: offloading and captured graphs hold on to their weights.
"""

from dataclasses import fields, replace
from typing import Any

import torch
from accelerate import init_empty_weights

from worker.checkpoints import Checkpoint
from worker.footprint import Footprint
from worker.speedups import split_projections


def in_float32(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with copies of its models that compute in float32. Raises torch.OutOfMemoryError."""
    found = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    copies = {name: _copy(model) for name, model in found.items() if isinstance(model, torch.nn.Module)}
    visitors = [copy for name, copy in copies.items() if name != "unet"]
    footprint = Footprint(copies["unet"], visitors, checkpoint.device)
    footprint.load()
    return replace(checkpoint, dtype=torch.float32, autocast=False, footprint=footprint, speedups=(), **copies)


def decoding_in_float32(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with such a copy of the VAE alone. Raises torch.OutOfMemoryError."""
    vae = _copy(checkpoint.vae).to(checkpoint.device)
    return replace(checkpoint, dtype=torch.float32, autocast=False, vae=vae)


def _copy(model: Any) -> Any:
    """On the CPU, without what was hooked into the original."""
    make = getattr(type(model), "from_config", type(model))
    with init_empty_weights():
        copy = make(model.config)
    weights = split_projections(model.state_dict())
    copy.load_state_dict({name: _widen(tensor) for name, tensor in weights.items()}, assign=True)
    return copy.eval().requires_grad_(False)


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.to("cpu", dtype, memory_format=torch.contiguous_format)
