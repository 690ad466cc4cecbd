"""The arithmetic of denoising: pure functions on tensors.

Letters in shapes: N samples, G of them guided, R = G + N rows of a UNet call, C latent channels, h × w the latent
size, H × W the image size, T tokens of D numbers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Rows(NamedTuple):
    """The input of one UNet call: the negatives of the guided samples, then the positives of all."""

    latents: Tensor
    """(R, C, h, w)"""
    timesteps: Tensor
    """(R,) float32: UNet2DConditionModel takes one a row."""
    text: Tensor
    """(R, T, D)"""


def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Gaussian noise of `shape`, float32, on the CPU: the same on every device and in every batch."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def start_from_noise(noise: Tensor, scheduler: Any) -> Tensor:
    """Latents (1, C, h, w) to denoise into an image, from noise of that shape."""
    return noise * scheduler.init_noise_sigma  # type: ignore[no-any-return]


def start_from_image(clean: Tensor, noise: Tensor, scheduler: Any, timestep: Tensor) -> Tensor:
    """The latents of an init image (1, C, h, w), noised as far as the first timestep (1,) to be run."""
    return scheduler.add_noise(clean, noise, timestep)  # type: ignore[no-any-return]


def assemble_rows(
    latents: Sequence[Tensor],
    timesteps: Sequence[Tensor],
    positives: Sequence[Tensor],
    negatives: Sequence[Tensor | None],
) -> Rows:
    """Lay N samples out as rows.

    latents: N × (1, C, h, w), scaled for the model; timesteps: N × (); positives: N × (1, T, D);
    negatives: N × (1, T, D), or None where the sample is unguided.
    """
    guided = [i for i, negative in enumerate(negatives) if negative is not None]
    order = [*guided, *range(len(latents))]
    return Rows(
        torch.cat([latents[i] for i in order]),
        torch.stack([timesteps[i].float() for i in order]),
        torch.cat([text for text in (*negatives, *positives) if text is not None]),
    )


def guide(predictions: Tensor, scales: Sequence[float | None]) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) with a scale of its own for each of N samples.

    predictions: (R, C, h, w), rows laid out as in `assemble_rows`; scales: N, None where unguided. Gives (N, C, h, w).
    """
    guided = [i for i, scale in enumerate(scales) if scale is not None]
    negatives, positives = predictions[: len(guided)], predictions[len(guided) :]
    if not guided:
        return positives
    weights = torch.tensor([scales[i] for i in guided], dtype=predictions.dtype, device=predictions.device)
    result = positives.clone()
    result[guided] = negatives + weights.view(-1, 1, 1, 1) * (positives[guided] - negatives)
    return result


def image_to_tensor(image: Image.Image, width: int, height: int) -> Tensor:
    """An RGB image stretched to width × height, as (1, 3, H, W) in [-1, 1]: what the VAE encodes."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    # Strides of a batch of interleaved RGB, as the pipeline has them: the VAE's last bits depend on them.
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32)[None] / 255.0)
    return 2.0 * pixels.permute(0, 3, 1, 2) - 1.0


def to_pixels(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """VAE output (N, 3, H, W) in [-1, 1] → uint8 (N, H, W, 3), and (N,) whether every number of it was finite."""
    decoded = decoded.float()
    finite = decoded.isfinite().flatten(1).all(1)
    scaled = (decoded * 0.5 + 0.5).clamp(0, 1).nan_to_num() * 255
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1), finite
