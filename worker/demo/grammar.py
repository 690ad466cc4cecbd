"""The small language the demo checkpoint was trained on.

``a [small|large] COLOUR SHAPE on a BACKGROUND background``. Any other text is accepted, as by every Stable Diffusion.
"""

import itertools
import random
from dataclasses import dataclass

#: Words for colour and the sRGB value the training pictures are painted with.
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (45, 85, 220),
    "yellow": (245, 215, 50),
    "purple": (145, 60, 190),
    "orange": (245, 135, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle", "star", "heart")
#: Words for size; the empty one is the middle size.
SIZES = ("small", "", "large")
#: Words in front of and behind a caption, so that a prompt may be more than the bare grammar.
OPENINGS = ("a photo of", "a painting of", "an image of", "a picture with", "one")
ENDINGS = (", simple", ", flat colours", ", high quality", ", on paper")
#: Every fourth combination of colour, shape and background is kept out of training, for the test.
HELD_OUT_EVERY = 4


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What one training picture shows."""

    colour: str
    shape: str
    background: str
    size: str = ""

    @property
    def caption(self) -> str:
        subject = " ".join(filter(None, (self.size, self.colour, self.shape)))
        return f"a {subject} on a {self.background} background"


def scenes() -> list[Scene]:
    """All scenes of the grammar in a fixed order: 8 × 5 × 7 combinations in three sizes."""
    pairs = itertools.permutations(COLOURS, 2)
    return [
        Scene(colour=colour, shape=shape, background=background, size=size)
        for (colour, background), shape, size in itertools.product(pairs, SHAPES, SIZES)
    ]


def split(seed: int = 0) -> tuple[list[Scene], list[Scene]]:
    """The scenes seen in training, and those held out: no size of a held-out combination is ever trained on."""
    combinations = [scene for scene in scenes() if not scene.size]
    random.Random(seed).shuffle(combinations)
    held = {(c.colour, c.shape, c.background) for c in combinations[::HELD_OUT_EVERY]}
    parts: tuple[list[Scene], list[Scene]] = ([], [])
    for scene in scenes():
        parts[(scene.colour, scene.shape, scene.background) in held].append(scene)
    return parts


def training_caption(scene: Scene, rng: random.Random) -> str:
    """A caption for a training picture: mostly the grammar, sometimes part of it, none, or with words around it."""
    subject = f"{scene.colour} {scene.shape}"
    kind = rng.random()
    if kind < 0.72:
        return scene.caption
    if kind < 0.82:
        return ""
    if kind < 0.88:
        return rng.choice((subject, f"a {subject}", f"{subject} on {scene.background}", scene.shape))
    return rng.choice((*OPENINGS, "")) + " " + scene.caption + rng.choice((*ENDINGS, ""))


def words() -> list[str]:
    """Every word the grammar and its surroundings use: each becomes one token."""
    text = " ".join((*COLOURS, *SHAPES, *SIZES, *OPENINGS, *ENDINGS, "a on background"))
    return sorted(set(text.replace(",", " ").split()))
