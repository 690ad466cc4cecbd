"""Canvases: the pictures that a sample begins from, pixel by pixel; and what of their latents is kept in every step."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from worker import denoise
from worker.errors import InitImageRefused
from worker.init_images import open_init_image, read_pixels
from worker.sample import Pixels, Sample

WHITE = 128
"""From this grey on a mask is white, as in the original's inpaint.py."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Canvas:
    """The init image and the mask of a sample, of its size in pixels."""

    width: int
    height: int
    picture: Pixels | None = None
    """(H, W, 3); None where the sample begins from noise alone."""
    mask: NDArray[np.bool_] | None = None
    """(H, W), true where the picture is to be painted anew; None is everywhere."""

    def visible(self) -> Tensor:
        """The picture, as (1, 3, H, W) in [-1, 1]."""
        assert self.picture is not None
        return denoise.image_to_tensor(self.picture)

    def masked(self) -> Tensor:
        """The same, grey where it is to be painted anew."""
        if self.picture is None or self.mask is None:
            return torch.zeros(1, 3, self.height, self.width)
        return self.visible() * torch.from_numpy(~self.mask)[None, None]

    def fill(self, factor: int) -> Tensor:
        """Which latents of `factor` pixels a side are to be painted anew: (1, 1, h, w), by the first pixel of each."""
        if self.mask is None:
            return torch.ones(1, 1, self.height // factor, self.width // factor, dtype=torch.bool)
        return torch.from_numpy(self.mask[::factor, ::factor].copy())[None, None]

    def restore(self, pixels: Pixels) -> None:
        """Put the picture's own pixels back around what was painted, in place."""
        if self.picture is not None and self.mask is not None:
            np.copyto(pixels, self.picture, where=~self.mask[..., None])


def open_canvas(sample: Sample) -> Canvas:
    """The canvas of a sample. Raises InitImageRefused."""
    picture = None if sample.init_image is None else open_init_image(sample)
    mask = None if sample.mask_image is None else open_mask(sample)
    return Canvas(width=sample.width, height=sample.height, picture=picture, mask=mask)


def open_mask(sample: Sample) -> NDArray[np.bool_]:
    """The sample's mask, stretched to its size; what is transparent is kept. Raises InitImageRefused."""
    if sample.init_image is None or sample.mask_image is None:
        raise InitImageRefused("There is no init image for the mask to lie on; name one.")
    pixels = read_pixels(sample.mask_image, sample.width, sample.height, "black")
    mask: NDArray[np.bool_] = np.asarray(Image.fromarray(pixels).convert("L")) >= WHITE
    if not mask.any():
        raise InitImageRefused(f"The mask {sample.mask_image} is nowhere white, so that nothing would be painted.")
    return mask


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Kept:
    """The latents of an init image around a mask, which a UNet without an eye for masks would change.

    After every step they are put back as noisy as the next one wants them (RePaint, Lugmayr et al. 2022, without its
    resampling; as diffusers' inpainting pipelines do it).
    """

    fill: Tensor
    """(1, 1, h, w), on the device, as the next two."""
    clean: Tensor
    """(1, C, h, w)"""
    noise: Tensor
    """(1, C, h, w)"""
    levels: Tensor
    """(n + 1, 2): how much of both there is before each step, and after the last."""

    def put_back(self, latents: Tensor, index: int) -> Tensor:
        """Latents before step `index`, (1, C, h, w). The first ones are as they should be."""
        if index == 0:
            return latents
        of_image, of_noise = self.levels[index]
        return torch.where(self.fill, latents, torch.add(of_image * self.clean, of_noise * self.noise))
