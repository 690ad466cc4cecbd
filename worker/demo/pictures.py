"""Draws the pictures the demo checkpoint is trained on."""

import math
import random

from PIL import Image, ImageDraw

from worker.demo.grammar import COLOURS, Scene

#: Width and height of a training picture, in pixels.
SIDE = 128
#: The picture is drawn this many times larger and reduced, for smooth edges.
OVERSAMPLING = 2
#: Radius of the shape as a share of the side, from and to, by the word for size.
RADII = {"small": (0.20, 0.23), "": (0.28, 0.32), "large": (0.37, 0.40)}
#: How far from the middle a shape may be, as a share of the side, and how far it may lean, in degrees. A model this
#: small learns the shapes sooner the less else there is to learn.
SHIFT, TILT = 0.08, 5

Point = tuple[float, float]


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """Paint ``scene`` near the middle, with a size within its word and a slight tilt: an RGB picture of SIDE × SIDE."""
    side = SIDE * OVERSAMPLING
    radius = rng.uniform(*RADII[scene.size]) * side
    centre = (side * (0.5 + rng.uniform(-SHIFT, SHIFT)), side * (0.5 + rng.uniform(-SHIFT, SHIFT)))
    picture = Image.new("RGB", (side, side), COLOURS[scene.background])
    corners = _outline(scene.shape, centre, radius, math.radians(rng.uniform(-TILT, TILT)))
    ImageDraw.Draw(picture).polygon(corners, fill=COLOURS[scene.colour])
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _outline(shape: str, centre: Point, radius: float, tilt: float) -> list[Point]:
    cos, sin = math.cos(tilt), math.sin(tilt)
    return [
        (centre[0] + radius * (x * cos - y * sin), centre[1] + radius * (x * sin + y * cos)) for x, y in OUTLINES[shape]
    ]


def _polygon(corners: int, *, inner: float = 1.0, turn: float = 0.0) -> list[Point]:
    """Points around the unit circle, every second one at radius ``inner``."""
    angles = (2 * math.pi * i / corners + turn for i in range(corners))
    return [
        (math.sin(a) * (inner if i % 2 else 1.0), -math.cos(a) * (inner if i % 2 else 1.0))
        for i, a in enumerate(angles)
    ]


def _heart() -> list[Point]:
    """The heart curve, scaled into the unit circle (https://mathworld.wolfram.com/HeartCurve.html, equation 7)."""
    points = []
    for i in range(64):
        t = 2 * math.pi * i / 64
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((16 * math.sin(t) ** 3 / 17, -(y + 2.5) / 17))
    return points


OUTLINES = {
    "circle": _polygon(96),
    "square": _polygon(4, turn=math.pi / 4),
    "triangle": _polygon(3),
    "star": _polygon(10, inner=0.4),
    "heart": _heart(),
}
