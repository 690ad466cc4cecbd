"""What is saved of a picture that the safety checker found unsafe."""

from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from worker.sample import Pixels

SIGMAS = 8
"""Standard deviations of the blur in a picture's shorter side."""


def hide(pixels: Pixels, how: Literal["off", "flag", "blur", "black"]) -> Pixels:
    """What is saved of an unsafe picture."""
    if how == "black":
        return np.zeros_like(pixels)
    if how == "blur":
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(min(pixels.shape[:2]) / SIGMAS)))
    return pixels
