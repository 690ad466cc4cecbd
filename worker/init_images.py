"""Init images: the pictures that a sample begins from."""

from PIL import Image, ImageOps

from worker.errors import InitImageRefused
from worker.sample import Sample

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow knows more, some of which start other programs."""


def open_init_image(sample: Sample) -> Image.Image:
    """The sample's init image as RGB, upright, of whatever size it has. Raises InitImageRefused."""
    assert sample.init_image is not None
    try:
        with Image.open(sample.init_image, formats=FORMATS) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InitImageRefused(f"The init image {sample.init_image} cannot be read: {error}.") from error
