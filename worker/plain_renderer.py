"""The plain renderer: samples of equal parameters become pictures in one call of their checkpoint's own pipeline.

It has no steps of its own: a flight is done after one. Unlike samples share no call, and a sample's last bits may
depend on who shared its call.
"""

import logging
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from configs.samplers import OWN
from worker.checkpoints import Checkpoint
from worker.errors import InitImageRefused, NonFiniteImage, PromptRefused, SamplerRefused, SizeRefused
from worker.init_images import open_init_image, picture_digests
from worker.memory import naming_out_of_memory
from worker.plain import PlainCheckpoint, takes
from worker.progress import Progress
from worker.room import Rooms
from worker.sample import Pixels, Sample, Variant

log = logging.getLogger(__name__)

MOST_ROWS = 8
"""Rows of one call: transformers fill a device with few, and a call cannot be left before its end."""


@dataclass(slots=True)
class PlainFlight:
    """A sample that waits for its pipeline's call, or has come out of it."""

    sample: Sample
    pixels: Pixels | None = None
    rows: int = 0
    images: int = 0
    exact: bool = False
    dtype: str = ""
    variant: Variant = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether it is a picture."""
        return self.pixels is not None


class PlainRenderer:
    """Renders with a checkpoint's own pipeline. Not thread-safe: the engine's thread owns it."""

    def __init__(
        self,
        checkpoint: PlainCheckpoint,
        progress: Progress | None = None,
        rooms: Rooms | None = None,
        *,
        default_sampler: str = OWN.name,
        apart: bool = False,
    ) -> None:
        """default_sampler: what jobs have that name none; apart: whether each sample has a call of its own."""
        self.checkpoint = checkpoint
        self.rooms = rooms or plain_rooms(checkpoint)
        self._progress = progress or Progress()
        self._samplers = {OWN.name, default_sampler}
        self._apart = apart
        self._kind = type(checkpoint.pipeline).__name__
        for name in ("unet", "transformer"):
            if isinstance(module := getattr(checkpoint.pipeline, name, None), torch.nn.Module):
                # A call takes many steps: each is a sign of life.
                module.register_forward_pre_hook(partial(_beat, self._progress))

    def start(self, sample: Sample) -> PlainFlight:
        """Take a sample. Raises JobRefused when the pipeline cannot make its image."""
        self._check(sample)
        return PlainFlight(sample, variant=self.checkpoint.arithmetic | picture_digests(sample))

    def step(self, flights: list[PlainFlight]) -> None:
        """Make the pictures of the flights; one that fails gets its `error`.

        Raises torch.OutOfMemoryError; pictures made until then are kept, and fewer flights may fit.
        """
        groups: dict[Hashable, list[PlainFlight]] = {}
        for flight in flights:
            if not flight.done:
                groups.setdefault(self._likeness(flight.sample), []).append(flight)
        for group in groups.values():
            self._render(group)

    def decode(self, flights: list[PlainFlight]) -> list[Pixels | None]:
        """The pictures, as the pipeline's own VAE has decoded them."""
        return [flight.pixels for flight in flights]

    def _check(self, sample: Sample) -> None:
        if sample.sampler not in self._samplers:
            raise SamplerRefused(f"A {self._kind} runs no sampler but its own; leave {sample.sampler} out.")
        for side, pixels in (("width", sample.width), ("height", sample.height)):
            if pixels % self.checkpoint.factor:
                raise SizeRefused(f"The {side} {pixels} is not a multiple of {self.checkpoint.factor}, as it must be.")
        if sample.weights:
            raise PromptRefused(f"A {self._kind} takes no weighted sub-prompts; leave weights off.")
        if sample.negative_prompt and not self._takes_negative:
            raise PromptRefused(f"A {self._kind} takes no negative prompt; leave it out.")
        if sample.init_image and self._image_pipeline is None:
            raise InitImageRefused(f"A {self._kind} takes no init image; leave it out.")
        if sample.mask_image:
            raise InitImageRefused(f"A {self._kind} is given no mask here; leave it out.")

    def _likeness(self, sample: Sample) -> Hashable:
        """What samples of one call have in common. No negative prompt may be another thing than an empty one."""
        if self._apart or sample.init_image:
            return object()
        return sample.shape, sample.steps, sample.scale, sample.eta, bool(sample.negative_prompt)

    def _render(self, flights: list[PlainFlight]) -> None:
        try:
            with self._progress.stage("unet"), naming_out_of_memory(), self.checkpoint.computing():
                images = self._call([flight.sample for flight in flights])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._render_apart(flights, error)
        else:
            for flight, image in zip(flights, images, strict=True):
                self._conclude(flight, image, flights)

    def _render_apart(self, flights: list[PlainFlight], error: Exception) -> None:
        """Find out which of the flights made their call fail."""
        if len(flights) == 1:
            flights[0].error = error
            return
        log.warning("A call of %s with %d images failed; each is made alone: %s", self._kind, len(flights), error)
        for flight in flights:
            self._render([flight])

    def _call(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """The images of samples that are alike, (N, H, W, 3) in [0, 1]."""
        sample = samples[0]
        pipeline = self._image_pipeline if sample.init_image else self.checkpoint.pipeline
        arguments = {
            "prompt": [sample.prompt for sample in samples],
            "generator": [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples],
            "num_inference_steps": sample.steps,
            "width": sample.width,
            "height": sample.height,
            "eta": sample.eta,
            "output_type": "np",
            **self._guidance(samples),
            **_beginning(sample),
        }
        taken = takes(type(pipeline))
        return np.asarray(pipeline(**{name: value for name, value in arguments.items() if name in taken})[0])

    def _guidance(self, samples: Sequence[Sample]) -> dict[str, Any]:
        scale = samples[0].scale
        arguments: dict[str, Any] = {self._scale_name: scale} if self._scale_name else {}
        # Where it is called the true scale, it has no effect without a negative prompt, be it empty.
        if samples[0].negative_prompt or (self._scale_name == "true_cfg_scale" and scale > 1):
            arguments["negative_prompt"] = [sample.negative_prompt for sample in samples]
        return arguments

    def _conclude(self, flight: PlainFlight, image: NDArray[np.float32], company: list[PlainFlight]) -> None:
        flight.rows, flight.images = sum(other.sample.rows for other in company), len(company)
        flight.dtype = self.checkpoint.dtype_name
        height, width = image.shape[:2]
        if (width, height) != (flight.sample.width, flight.sample.height):
            flight.error = SizeRefused(f"A {self._kind} makes an image of {width}x{height} instead; ask for that size.")
        elif not np.isfinite(image).all():
            flight.error = NonFiniteImage(
                f"The image's numbers became NaN or infinity in {flight.dtype}; set dtype to float32."
            )
        else:
            flight.pixels = (image * 255).round().astype(np.uint8)

    @cached_property
    def _image_pipeline(self) -> Any:
        """The pipeline that begins from an init image, made of the same models; None where there is none."""
        from diffusers import AutoPipelineForImage2Image

        try:
            pipeline = AutoPipelineForImage2Image.from_pipe(self.checkpoint.pipeline)
        except ValueError:
            return None
        pipeline.set_progress_bar_config(disable=True)
        return pipeline if takes(type(pipeline)).keys() >= {"image", "strength"} else None

    @cached_property
    def _scale_name(self) -> str | None:
        """The argument for the scale: of two, the one with which the pipeline guides when nothing is said."""
        taken = takes(type(self.checkpoint.pipeline))
        numbers = {name: taken[name].default for name in ("guidance_scale", "true_cfg_scale") if name in taken}
        guiding = [name for name, default in numbers.items() if isinstance(default, int | float) and default > 1]
        return next(iter(guiding or numbers), None)

    @property
    def _takes_negative(self) -> bool:
        """With a scale that was distilled into the model, pipelines take a negative prompt and do not heed it."""
        taken = takes(type(self.checkpoint.pipeline))
        return "negative_prompt" in taken and ("true_cfg_scale" not in taken or self._scale_name == "true_cfg_scale")


def _beat(progress: Progress, _module: torch.nn.Module, _arguments: object) -> None:
    progress.beat()


def plain_rooms(checkpoint: PlainCheckpoint, most: int = MOST_ROWS, **options: Any) -> Rooms:
    """Rooms that are not tuned: these ask no more of a checkpoint than a plain one has. options: those of `Rooms`."""
    return Rooms(checkpoint=cast(Checkpoint, checkpoint), most=min(most, MOST_ROWS), **options)


def _beginning(sample: Sample) -> dict[str, Any]:
    if sample.init_image is None:
        return {}
    return {"image": Image.fromarray(open_init_image(sample)), "strength": sample.strength}
