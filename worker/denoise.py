"""The arithmetic of denoising: pure functions on tensors.

Letters in shapes: N samples, G of them guided, R = G + N rows of a UNet call, C latent channels, h × w the latent
size, H × W the image size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.conditions import Conditions, join


class Rows(NamedTuple):
    """The input of one UNet call: the negatives of the guided samples, then the positives of all."""

    latents: Tensor
    """(R, C, h, w)"""
    timesteps: Tensor
    """(R,) float32: UNet2DConditionModel takes one a row."""
    conditions: Conditions


def draw_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Gaussian noise of `shape`, float32, on the CPU: the same on every device and in every batch."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def assemble_rows(
    latents: Sequence[Tensor],
    timesteps: Sequence[Tensor],
    positives: Sequence[Conditions],
    negatives: Sequence[Conditions | None],
) -> Rows:
    """Lay N samples out as rows.

    latents: N × (1, C, h, w), scaled for the model; timesteps: N × (); positives: N × one row;
    negatives: N × one row, or None where the sample is unguided.
    """
    guided = [i for i, negative in enumerate(negatives) if negative is not None]
    order = [*guided, *range(len(latents))]
    return Rows(
        torch.cat([latents[i] for i in order]),
        torch.stack([timesteps[i].float() for i in order]),
        join([conditions for conditions in (*negatives, *positives) if conditions is not None]),
    )


def pad(tensor: Tensor, count: int) -> Tensor:
    """(N, …) with copies of the first row up to `count` rows; as it is where it has as many."""
    missing = count - len(tensor)
    return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]) if missing > 0 else tensor


def pad_rows(rows: Rows, count: int) -> Rows:
    """The rows of one UNet call, padded."""
    parts = {name: pad(part, count) for name, part in rows.conditions._asdict().items() if part is not None}
    return Rows(pad(rows.latents, count), pad(rows.timesteps, count), Conditions(**parts))


def guide(predictions: Tensor, scales: Sequence[float | None]) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) with a scale of its own for each of N samples.

    predictions: (R, C, h, w), rows laid out as in `assemble_rows`; scales: N, None where unguided. Gives (N, C, h, w).
    """
    guided = [i for i, scale in enumerate(scales) if scale is not None]
    negatives, positives = predictions[: len(guided)], predictions[len(guided) :]
    if not guided:
        return positives
    weights = to_device(torch.tensor([scales[i] for i in guided], dtype=predictions.dtype), predictions.device)
    places = to_device(torch.tensor(guided), predictions.device)
    result = positives.clone()
    result[places] = negatives + weights.view(-1, 1, 1, 1) * (positives[places] - negatives)
    return result


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy from the CPU without waiting for what the device still has to do.

    From memory that is not pinned this is safe: the driver puts it aside before the call returns.
    """
    return tensor.to(device, non_blocking=True)


def image_to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """RGB pixels (H, W, 3) as (1, 3, H, W) in [-1, 1]: what the VAE encodes."""
    # Strides of a batch of interleaved RGB, as the pipeline has them: the VAE's last bits depend on them.
    pixels = torch.from_numpy(image.astype(np.float32)[None] / 255.0)
    return 2.0 * pixels.permute(0, 3, 1, 2) - 1.0


def to_pixels(decoded: Tensor, truncated: Sequence[bool] = ()) -> tuple[Tensor, Tensor]:
    """VAE output (N, 3, H, W) in [-1, 1] → uint8 (N, H, W, 3), and (N,) whether every number of it was finite.

    truncated: of which images the numbers are cut off, as the original scripts did it, instead of rounded.
    """
    decoded = decoded.float()
    finite = decoded.isfinite().flatten(1).all(1)
    scaled = (decoded * 0.5 + 0.5).clamp(0, 1).nan_to_num() * 255
    levels = scaled.round()
    if any(truncated):
        cut = to_device(torch.tensor(truncated), scaled.device).view(-1, 1, 1, 1)
        levels = torch.where(cut, scaled.floor(), levels)
    return levels.to(torch.uint8).permute(0, 2, 3, 1), finite


def combine(matrices: Tensor, inputs: Tensor) -> Tensor:
    """To each of N samples its own matrix: (N, P, K) times (N, K, …) gives (N, P, …).

    Term by term, each number on its own: a matrix product's last bits may depend on how many samples there are, and on
    a GPU on whether it was told to round.
    """
    factors = matrices.view(*matrices.shape, *[1] * (inputs.ndim - 2))
    result = factors[:, :, 0] * inputs[:, None, 0]
    for k in range(1, inputs.shape[1]):
        result.addcmul_(factors[:, :, k], inputs[:, None, k])
    return result
