"""A sample: one image to denoise, with every parameter resolved; and the picture it becomes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from configs.compat import Mode, Noise, steps_taken

Pixels = NDArray[np.uint8]
"""RGB pixels, shape (H, W, 3)."""
Variant: TypeAlias = dict[str, str | bool]
"""What of the way an image was made can change its bits, beside shape and number format: `sampling`, which is `tables`
or `objects`; `rows` of its UNet calls, as `worker.call_rows` writes them; each where it is so, `channels_last`,
`fused_projections`, `compiled`, `tiled`; on a CPU, `threads` and `instructions`; and the sha256 of the files
`init_image` and `mask_image`."""


class Form(NamedTuple):
    """A checkpoint as it is opened."""

    model: str
    precision: str | None = None
    """One of `configs.parameters.PRECISIONS`; None is the worker's own dtype."""

    def __str__(self) -> str:
        return f"{self.model} in {self.precision}" if self.precision else self.model


class Shape(NamedTuple):
    """What samples must have in common to share a UNet call."""

    model: str
    width: int
    height: int
    precision: str | None = None

    @property
    def form(self) -> Form:
        """The checkpoint that they need."""
        return Form(self.model, self.precision)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What makes an image, and nothing else: two equal samples give the same image."""

    model: str
    """Names the checkpoint."""
    prompt: str
    negative_prompt: str = ""
    sampler: str
    steps: int
    scale: float
    width: int
    height: int
    seed: int
    eta: float = 0.0
    init_image: Path | None = None
    mask_image: Path | None = None
    """White where the init image is to be painted anew."""
    strength: float = 0.75
    precision: str | None = None
    """None is the worker's own dtype."""
    compat: Mode | None = None
    """Whose samplers and pixels are matched; None is our own way."""
    noise: Noise | None = None
    """Where its noise comes from; None: from a generator of its own, with its seed."""
    weights: bool = False
    """Whether the prompt is made of weighted sub-prompts."""

    @property
    def shape(self) -> Shape:
        """Samples of one shape can share a UNet call."""
        return Shape(self.model, self.width, self.height, self.precision)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on (as diffusers has it: a scale above 1)."""
        return self.scale > 1.0

    @property
    def rows(self) -> int:
        """Rows it takes in a UNet call: the positive one, and the negative one where guided."""
        return 2 if self.guided else 1

    @property
    def starts_from_noise(self) -> bool:
        """Whether nothing of an init image shows through its first latents; behind a mask, the strength decides."""
        return self.init_image is None or (self.mask_image is not None and self.strength == 1.0)

    @property
    def steps_taken(self) -> int:
        """How many steps are really taken."""
        return steps_taken(self.compat, self.sampler, self.steps, None if self.init_image is None else self.strength)

    @property
    def first_step(self) -> int:
        """Steps skipped: an init image is noised only as far as `strength` says, the rest is not run."""
        if self.init_image is None:
            return 0
        return self.steps - min(int(self.steps * self.strength), self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A finished sample on its way to disk."""

    pixels: Pixels
    seconds: float
    """From its first latents to its pixels, neighbours' work included."""
    rows: int
    """Rows of the largest UNet call it was part of, padding counted: with `images` the batch shape."""
    images: int
    """Images of the VAE call that decoded it, padding counted."""
    exact: bool
    """Whether its bits are known not to depend on what shared its calls."""
    device: str
    dtype: str
    checkpoint_hash: str
    variant: Variant = field(default_factory=dict)
    safety_score: float | None = None
    """Above 0 where the safety checker finds it unsafe. None without a checker."""
