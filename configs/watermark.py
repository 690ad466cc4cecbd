"""The invisible watermark of the original scripts: the method ``dwtDct`` of the package invisible-watermark, in NumPy.

What its decoder reads: of the 8-bit chroma U = 0.492 (B - Y) + 128 of BT.601, half the sum of each 2 × 2 pixels (the
low band of a Haar wavelet). These numbers are cut into blocks of 4 × 4, so of 8 × 8 pixels, row by row. A block votes
for one bit of the text, and the next block for the next, over and over. Its vote is 1 where its largest number, not
counting the first, is above 18 modulo 36. In spite of the name there is no cosine transform.

How it is written is ours. The package moves one number of a block to the middle of a band, and quite often another is
the largest then, or the picture's colours end before it is reached. Here the cheaper of two ways is taken: raise the
largest number, or lower all that are in the way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""RGB pixels, shape (H, W, 3)."""
Numbers = NDArray[np.floating[Any]]

TEXT = "StableDiffusionV1"
BITS = np.unpackbits(np.frombuffer(TEXT.encode(), np.uint8))
"""136."""
SMALLEST = 256 * 256
"""Pixels of a picture: the decoder refuses fewer."""
STRIP = 1 << 20
"""Pixels that are marked at a time."""
SIDE = 8
"""Pixels of a block's side."""
BAND = 18.0
"""The width of a band: bands of zeros and ones alternate."""
MARGIN = 5.0
"""How far inside its band a number is put."""
CLIPPED = 1.3
"""How much worse a level of lightness is than one of blue."""
HIGHEST = 476.0
"""What half the sum of four pixels' chroma can reach."""
CHROMA = np.array([-0.492 * 0.299, -0.492 * 0.587, 0.492 * 0.886], np.float32)
"""U of red, green and blue."""
GREEN, BLUE = -0.395, 2.032
"""What a level of U is of these, with Y and V as they were."""


def fits(pixels: Pixels) -> bool:
    """Whether a picture is large enough to be marked."""
    height, width = pixels.shape[:2]
    return int(height * width) >= SMALLEST


def embed(pixels: Pixels) -> Pixels:
    """The picture with the watermark in it; as it is where it is too small."""
    if not fits(pixels):
        return pixels
    marked = pixels.copy()
    height, width = pixels.shape[:2]
    # A grid may have sixty million pixels, and each takes fifty bytes on the way.
    rows = max(STRIP // width // SIDE, 1) * SIDE
    for top in range(0, height, rows):
        marked[top : top + rows] = _mark(pixels[top : top + rows], top // SIDE * (width // SIDE))
    return marked


def is_marked(pixels: Pixels) -> bool:
    """Whether a picture has the watermark, to the last bit."""
    return fits(pixels) and bool(np.array_equal(read_bits(pixels), BITS))


def read_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """The majority of the votes for each bit."""
    votes = _numbers(pixels)[:, 1:].max(axis=1) % (2 * BAND) > BAND
    bit = np.arange(len(votes)) % len(BITS)
    ones, all_votes = np.bincount(bit, votes, len(BITS)), np.bincount(bit, minlength=len(BITS))
    return (ones * 255 > all_votes * 127).astype(np.uint8)


def _mark(pixels: Pixels, first: int) -> Pixels:
    """Some rows of a picture with the watermark in them. first: how many blocks there are before them."""
    numbers = _numbers(pixels)
    blue = _split(pixels[..., 2].astype(np.float32))
    bits = np.take(BITS, np.arange(first, first + len(numbers)), mode="wrap")
    change = np.zeros_like(numbers)
    change[:, 1:] = _changes(numbers[:, 1:], blue[:, 1:], bits)
    # The Haar low band is half of a sum of four.
    return _tint(pixels, _join(np.repeat(change[..., None] / 2, 4, axis=2), pixels.shape))


def _numbers(pixels: Pixels) -> Numbers:
    """The numbers of each block, (N, 16)."""
    chroma = pixels.astype(np.float32) @ CHROMA + 128
    found: Numbers = _split(np.rint(chroma).clip(0, 255)).sum(axis=2) / 2
    return found


def _changes(numbers: Numbers, blue: Numbers, bits: NDArray[np.uint8]) -> Numbers:
    """What to add to the numbers that vote, (N, 15), so that each block votes for its bit. blue: of their pixels."""
    block, largest = np.arange(len(numbers)), numbers.argmax(axis=1)
    highest = numbers[block, largest]
    below, above = _bands(highest, bits)
    # A change of a number is about one of blue in each of its pixels.
    fall, rise = highest - below, above - highest
    lowering = fall + CLIPPED * np.maximum(fall - blue.min(axis=(1, 2)), 0)
    raising = rise + CLIPPED * np.maximum(rise + blue[block, largest].max(axis=1) - 255, 0)
    lowered, raised = _lower(numbers, below), numbers.copy()
    lowered[block, largest], raised[block, largest] = below, above
    down = (lowering < raising) | (above > HIGHEST)
    return np.where(down[:, None], lowered, raised) - numbers


def _bands(highest: Numbers, bits: NDArray[np.uint8]) -> tuple[Numbers, Numbers]:
    """For each block the nearest number at or below its highest, and the next above, that vote for the block's bit."""
    middle = BAND / 2 + BAND * bits.astype(np.float32)
    reach = BAND / 2 - MARGIN
    band = np.floor((highest - middle + reach) / (2 * BAND)) * 2 * BAND + middle
    return np.minimum(highest, band + reach), band + 2 * BAND - reach


def _lower(numbers: Numbers, below: Numbers) -> Numbers:
    """Out of the way of a largest number that is lowered to ``below``; where it stays, so do the others."""
    stays = numbers.max(axis=1) == below
    return np.where(stays[:, None], numbers, np.minimum(numbers, below[:, None] - 1.5))


def _tint(pixels: Pixels, chroma: Numbers) -> Pixels:
    """Add chroma to the first pixels. Where that is no colour, lightness gives way, and the chroma holds."""
    height, width = chroma.shape
    tinted = pixels[:height, :width].astype(np.float32)
    tinted[..., 1] += GREEN * chroma
    tinted[..., 2] += BLUE * chroma
    tinted -= (np.maximum(tinted.max(axis=2) - 255, 0) + np.minimum(tinted.min(axis=2), 0))[..., None]
    marked = pixels.copy()
    marked[:height, :width] = np.rint(tinted).clip(0, 255).astype(np.uint8)
    return marked


def _split(plane: Numbers) -> Numbers:
    """Blocks of a plane as (N, 16, 4): their squares of 2 × 2 pixels, and those. What is left over is cut off."""
    rows, columns = plane.shape[0] // SIDE, plane.shape[1] // SIDE
    squares = plane[: rows * SIDE, : columns * SIDE].reshape(rows, 4, 2, columns, 4, 2)
    return squares.transpose(0, 3, 1, 4, 2, 5).reshape(rows * columns, 16, 4)


def _join(blocks: Numbers, shape: Any) -> Numbers:
    """The plane of blocks, as `_split` has made them of one of that shape."""
    rows, columns = shape[0] // SIDE, shape[1] // SIDE
    squares = blocks.reshape(rows, columns, 4, 4, 2, 2).transpose(0, 2, 4, 1, 3, 5)
    return squares.reshape(rows * SIDE, columns * SIDE)
