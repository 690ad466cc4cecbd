"""Reads from the pixels whether a picture shows the colours its prompt asked for."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from worker.demo.grammar import COLOURS, Scene
from worker.demo.pictures import OUTLINES, SIDE

Pixels = NDArray[np.uint8]

#: Width in pixels of the frame that is taken for the background.
FRAME = 3
#: A patch smaller than this share of the picture is not a shape.
SMALLEST_SHAPE = 0.01


def shows(pixels: Pixels, scene: Scene) -> tuple[bool, bool]:
    """Whether the picture (H, W, 3) has the scene's shape colour, and whether it has its background colour."""
    shape, background = colours_of(pixels)
    return shape == scene.colour, background == scene.background


def colours_of(pixels: Pixels) -> tuple[str | None, str]:
    """The most frequent colour word off the background (None where nothing is), and that of the frame."""
    names = nearest_colours(pixels)
    inside = np.zeros(names.shape, dtype=bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    background = Counter(names[~inside].tolist()).most_common(1)[0][0]
    others = Counter(names[inside & (names != background)].tolist()).most_common(1)
    if not others or others[0][1] < SMALLEST_SHAPE * names.size:
        return None, background
    return others[0][0], background


def nearest_colours(pixels: Pixels) -> NDArray[np.str_]:
    """The colour word nearest in RGB to each pixel, (H, W)."""
    palette = np.array(list(COLOURS.values()), dtype=np.float32)
    distances = ((pixels[:, :, None].astype(np.float32) - palette) ** 2).sum(axis=-1)
    names: NDArray[np.str_] = np.array(list(COLOURS))[distances.argmin(axis=-1)]
    return names


def shape_of(pixels: Pixels) -> str | None:
    """The word for the shape whose silhouette overlaps best with what stands off the background; None for nothing."""
    names = nearest_colours(pixels)
    colour, _ = colours_of(pixels)
    if colour is None:
        return None
    found = _fitted(names == colour)
    return max(OUTLINES, key=lambda shape: _overlap(found, _fitted(_silhouette(shape))))


def _silhouette(shape: str) -> NDArray[np.bool_]:
    picture = Image.new("1", (SIDE, SIDE))
    ImageDraw.Draw(picture).polygon([(SIDE / 2 * (1 + x), SIDE / 2 * (1 + y)) for x, y in OUTLINES[shape]], fill=1)
    return np.asarray(picture)


def _fitted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's bounding box, stretched over the whole picture."""
    rows, columns = np.nonzero(mask)
    box = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.asarray(Image.fromarray(box).resize((SIDE, SIDE)))


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())
