"""The space that is denoised: a VAE's own latents, brought to about zero mean and unit variance."""

from typing import Any

import torch
from torch import Tensor


def normalize(latents: Tensor, vae_config: Any) -> Tensor:
    """What the VAE has encoded, (N, C, h, w), as it is denoised."""
    mean, std = _statistics(latents, vae_config)
    if mean is None or std is None:
        return vae_config.scaling_factor * latents  # type: ignore[no-any-return]
    return (latents - mean) * vae_config.scaling_factor / std  # type: ignore[no-any-return]


def denormalize(latents: Tensor, vae_config: Any) -> Tensor:
    """The reverse: what the VAE decodes."""
    mean, std = _statistics(latents, vae_config)
    if mean is None or std is None:
        return latents / vae_config.scaling_factor  # type: ignore[no-any-return]
    return latents * std / vae_config.scaling_factor + mean  # type: ignore[no-any-return]


def _statistics(latents: Tensor, vae_config: Any) -> tuple[Tensor | None, Tensor | None]:
    """Mean and standard deviation by channel, (1, C, 1, 1), where the VAE's configuration has both."""
    mean, std = getattr(vae_config, "latents_mean", None), getattr(vae_config, "latents_std", None)
    if mean is None or std is None:
        return None, None
    mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(latents.device, latents.dtype) for values in (mean, std))
    return mean, std
