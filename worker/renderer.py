"""The tensors behind the engine: samples become flights, flights take steps, and land as pixels."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker import denoise, trajectories
from worker.call_rows import write_rows
from worker.canvas import Canvas, Kept, open_canvas
from worker.checkpoints import Checkpoint
from worker.conditions import Conditions
from worker.errors import NonFiniteImage, OutOfMemory, SizeRefused
from worker.float32 import decoding_in_float32, in_float32
from worker.init_images import picture_digests
from worker.latent_space import denormalize, normalize
from worker.layout import Layout, tight
from worker.memory import naming_out_of_memory, release_memory
from worker.noise import CudaNoise, Source, draw_start
from worker.predictor import Predictor
from worker.progress import Progress
from worker.room import Rooms, most_rows
from worker.sample import Pixels, Sample, Variant
from worker.samplers import Samplers, Sampling
from worker.text import PromptEmbeddings
from worker.trajectories import Trajectory

log = logging.getLogger(__name__)

NOT_FINITE = "The image's numbers became NaN or infinity"


class Start(NamedTuple):
    """What a flight begins with, on the device; see there."""

    latents: Tensor
    canvas: Canvas
    kept: Kept | None
    beside: Tensor | None


@dataclass(slots=True)
class Flight:
    """A sample on the device."""

    sample: Sample
    latents: Tensor
    """(1, C, h, w) float32 on the device, whatever the UNet's own dtype."""
    trajectory: Trajectory
    positive: Conditions
    """One row, as the next."""
    negative: Conditions | None
    """None when unguided."""
    canvas: Canvas
    kept: Kept | None = None
    """Where there is a mask, and a UNet that does not see it."""
    beside: Tensor | None = None
    """(1, 1 + C, h, w): what an inpainting UNet sees beside the latents, mask and masked image; None for any other."""
    calls: list[int] = field(default_factory=list)
    """Rows of each UNet call so far, padding counted."""
    rows: int = 0
    """Of the largest of them."""
    images: int = 0
    """Images of the VAE call, padding counted."""
    exact: bool = False
    """Whether all its calls so far had one shape, and an exact layout."""
    dtype: str = ""
    """In which it was decoded; float32 where it had to be made again."""
    variant: Variant = field(default_factory=dict)
    """What else of the way it was made can change its bits."""
    started: float = field(default_factory=time.monotonic)
    error: Exception | None = None
    """What ended it early."""

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.trajectory.done

    def put_back(self) -> None:
        """Let its latents around a mask be those of its init image; done twice, it is as if done once."""
        if self.kept is not None:
            self.latents = self.kept.put_back(self.latents, self.trajectory.index)

    def note_unet_call(self, rows: int, layout: Layout, *, compiled: bool) -> None:
        """It was in a call of so many rows."""
        alike = self.exact and self.rows == rows and self.variant.get("compiled", False) == compiled
        self.exact = layout.exact and (not self.rows or alike)
        self.calls.append(rows)
        self.rows = max(self.rows, rows)
        self._vary("compiled", compiled)

    def note_vae_call(self, images: int, layout: Layout, dtype: str, *, tiled: bool) -> None:
        """It was in a call of so many images."""
        self.exact = self.exact and layout.exact
        self.images, self.dtype = images, dtype
        self.variant["rows"] = write_rows(self.calls)
        self._vary("tiled", tiled)

    def _vary(self, word: str, happened: bool) -> None:
        if happened:
            self.variant[word] = True


class Renderer:
    """Encode, denoise and decode with one checkpoint. Not thread-safe: the engine's thread owns it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        progress: Progress | None = None,
        layout: Callable[[int, int], Layout] = tight,
        rooms: Rooms | None = None,
        sampling: Sampling = "tables",
        predictor: Predictor | None = None,
    ) -> None:
        """Time is charged to the stages of `progress`. layout: that of images of a width and height in pixels."""
        self.checkpoint = checkpoint
        self.rooms = rooms or Rooms(checkpoint=checkpoint, most=most_rows(checkpoint.device))
        self._layout = layout
        self._predictor = predictor or Predictor(checkpoint)
        self._progress = progress or Progress()
        self._texts = PromptEmbeddings(checkpoint.text_encoders, zeros_for_empty=checkpoint.zeros_for_empty)
        self._sampling = sampling
        self._samplers = Samplers(checkpoint.scheduler_config, sampling)

    def start(self, sample: Sample) -> Flight:
        """Put a sample on the device. Raises JobRefused when it cannot be."""
        return self.rooms.of(sample.width, sample.height).fit(partial(self._start, sample))

    def _start(self, sample: Sample) -> Flight:
        shape = self._latent_shape(sample)
        generator = torch.Generator("cpu").manual_seed(sample.seed)
        source = CudaNoise(sample.noise) if sample.noise else generator
        trajectory = self._samplers.start(sample, generator, source)
        start = self._begin(sample, shape, trajectory, generator, source)
        with self._progress.stage("text"), self.checkpoint.computing():
            encode = self._texts.encode_weighted if sample.weights else self._texts.encode
            positive = encode(sample.prompt)
            negative = self._texts.encode_negative(sample.negative_prompt) if sample.guided else None
        size = sample.width, sample.height
        positive, negative = positive.of_size(*size), negative and negative.of_size(*size)
        variant: Variant = {"sampling": trajectory.kind, **dict.fromkeys(self.checkpoint.speedups, True)}
        variant |= self.checkpoint.arithmetic | picture_digests(sample)
        return Flight(sample, start.latents, trajectory, positive, negative, *start[1:], variant=variant)

    def step(self, flights: list[Flight]) -> None:
        """Take every flight one step further, in one UNet call; a flight whose sampler fails gets its `error`.

        Raises torch.OutOfMemoryError; then nothing has changed, and fewer flights may fit.
        """
        for flight in flights:
            flight.put_back()
        ways, latents = [flight.trajectory for flight in flights], [flight.latents for flight in flights]
        for flight, stepped in zip(flights, trajectories.step(ways, latents, self._predict(flights)), strict=True):
            if isinstance(stepped, Exception):
                flight.error = stepped
            else:
                flight.latents = stepped

    def decode(self, flights: list[Flight]) -> list[Pixels | None]:
        """The pictures of flights of one size; one that is not finite is made again in float32, by itself.

        None where that does not help; then the flight has its `error`.
        """
        pixels, finite = self.decode_once(flights)
        decoded = zip(flights, pixels, finite, strict=True)
        return [image if good else self._redo(flight) for flight, image, good in decoded]

    def decode_once(self, flights: list[Flight]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The pictures of flights of one size, (N, H, W, 3), and which of them are finite, (N,)."""
        room = self.rooms.of(flights[0].sample.width, flights[0].sample.height)
        padded = self._arrange(flights)[0].images > 0
        pixels, finite = zip(*room.decode(self._call_vaes, flights, padded=padded), strict=True)
        return np.stack(pixels), np.stack(finite)

    def fly(self, samples: Sequence[Sample]) -> list[Flight]:
        """Samples together, from start to end. Raises what ends one of them early."""
        flights = [self.start(sample) for sample in samples]
        while running := [flight for flight in flights if not flight.done]:
            self.step(running)
            if failed := next((flight.error for flight in running if flight.error), None):
                raise failed
        for flight in flights:
            flight.put_back()
        return flights

    def _arrange(self, flights: Sequence[Flight]) -> tuple[Layout, list[list[Flight]]]:
        """The layout of their calls, and who shares one."""
        layout = self._layout(flights[0].sample.width, flights[0].sample.height)
        return layout, [[flight] for flight in flights] if layout.apart else [list(flights)]

    def _predict(self, flights: list[Flight]) -> Tensor:
        """The guided prediction of every flight, (N, C, h, w) float32."""
        layout, groups = self._arrange(flights)
        return torch.cat([self._call_unet(group, layout) for group in groups])

    def _call_unet(self, flights: list[Flight], layout: Layout) -> Tensor:
        ways, latents = [flight.trajectory for flight in flights], [flight.latents for flight in flights]
        rows = denoise.assemble_rows(
            _widen(trajectories.scale(ways, latents), [flight.beside for flight in flights]).split(1),
            [flight.trajectory.timestep for flight in flights],
            [flight.positive for flight in flights],
            [flight.negative for flight in flights],
        )
        used, size = len(rows.latents), (flights[0].sample.width, flights[0].sample.height)
        rows = denoise.pad_rows(rows, layout.rows or self._predictor.fit(*size, used))
        with self._progress.stage("unet"), naming_out_of_memory(), self.checkpoint.computing():
            predictions, compiled = self._predictor.predict(rows, *size)
        for flight in flights:
            flight.note_unet_call(len(predictions), layout, compiled=compiled)
        return denoise.guide(predictions[:used], [f.sample.scale if f.sample.guided else None for f in flights])

    def _call_vaes(self, flights: Sequence[Flight]) -> list[tuple[NDArray[np.uint8], np.bool_]]:
        """The picture of each flight, and whether it is finite."""
        layout, groups = self._arrange(flights)
        return [pair for group in groups for pair in zip(*self._call_vae(group, layout), strict=True)]

    def _call_vae(self, flights: list[Flight], layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        for flight in flights:
            flight.put_back()
        latents = denoise.pad(torch.cat([flight.latents for flight in flights]), layout.images)
        vae = self.checkpoint.vae
        tiled = bool(getattr(vae, "use_tiling", False))
        with self.checkpoint.decoding():
            decoded = vae.decode(denormalize(latents.to(vae.dtype), vae.config), return_dict=False)[0]
        for flight in flights:
            flight.note_vae_call(len(latents), layout, self.checkpoint.dtype_name, tiled=tiled)
        truncated = [flight.sample.compat is not None for flight in flights]
        pixels, finite = (tensor.cpu().numpy() for tensor in denoise.to_pixels(decoded[: len(flights)], truncated))
        for flight, image in zip(flights, pixels, strict=True):
            flight.canvas.restore(image)
        return pixels, finite

    def _redo(self, flight: Flight) -> Pixels | None:
        """Make an image again in float32; None, and the flight's `error`, where that does not help."""
        try:
            return self._render_in_float32(flight)
        except (torch.OutOfMemoryError, OutOfMemory) as error:
            release_memory(error)
            flight.error = NonFiniteImage(f"{NOT_FINITE} in {flight.dtype}, and float32 does not fit in the memory.")
        except Exception as error:
            flight.error = error
        return None

    def _render_in_float32(self, flight: Flight) -> Pixels:
        """The whole image again, or only its decoding where the latents are finite. Raises NonFiniteImage."""
        if not self.checkpoint.is_full:
            log.warning("%s in %s (seed %d); making it again.", NOT_FINITE, flight.dtype, flight.sample.seed)
            if flight.latents.isfinite().all():
                renderer, again = Renderer(decoding_in_float32(self.checkpoint), self._progress), flight
            else:
                renderer = Renderer(in_float32(self.checkpoint), self._progress, sampling=self._sampling)
                again = renderer.fly([flight.sample])[0]
            pixels, finite = renderer.decode_once([again])
            flight.rows, flight.images, flight.exact, flight.dtype = again.rows, again.images, again.exact, again.dtype
            flight.variant = again.variant
            if finite[0]:
                image: Pixels = pixels[0]
                return image
        raise NonFiniteImage(f"{NOT_FINITE} in float32; try another sampler or a lower scale, or check the checkpoint.")

    def _latent_shape(self, sample: Sample) -> tuple[int, int, int, int]:
        factor = self.checkpoint.factor
        for side, pixels in (("width", sample.width), ("height", sample.height)):
            if pixels % factor or pixels <= 0:
                raise SizeRefused(
                    f"The {side} {pixels} is not a multiple of {factor}, as {self.checkpoint.name} needs."
                )
        return 1, self.checkpoint.vae.config.latent_channels, sample.height // factor, sample.width // factor

    def _begin(
        self,
        sample: Sample,
        shape: tuple[int, ...],
        trajectory: Trajectory,
        generator: torch.Generator,
        source: Source,
    ) -> Start:
        """Draws from the generator in the order of the pipelines: init image, noise, masked image."""
        canvas, kept, beside = open_canvas(sample), None, None
        is_kept = canvas.mask is not None and not self._sees_masks
        clean = self._encode(canvas.visible(), generator) if is_kept or not sample.starts_from_noise else None
        if clean is not None and canvas.mask is not None:
            # Strides as the inpainting pipelines have them: the UNet's last bits depend on them.
            clean = clean.contiguous()
        noise = draw_start(source, shape)
        if clean is None or sample.starts_from_noise:
            latents = trajectory.start_from_noise(noise)
        else:
            latents = trajectory.start_from_image(clean, noise)
        if self._sees_masks:
            fill = canvas.fill(self.checkpoint.factor)
            beside = self._place(torch.cat([fill.float(), self._encode(canvas.masked(), generator)], dim=1))
        elif clean is not None and is_kept:
            kept = self._keep(sample, canvas, clean, noise)
            # The pipeline encodes the masked image too, and makes no use of it.
            denoise.draw_noise(shape, generator)
        return Start(self._place(latents), canvas, kept, beside)

    def _keep(self, sample: Sample, canvas: Canvas, clean: Tensor, noise: Tensor) -> Kept:
        fill, clean, noise = map(self._place, (canvas.fill(self.checkpoint.factor), clean, noise))
        return Kept(fill=fill, clean=clean, noise=noise, levels=self._samplers.levels(sample))

    def _encode(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of an image (1, 3, H, W) in [-1, 1], on the CPU: (1, C, h, w) float32."""
        vae = self.checkpoint.vae
        with self._progress.stage("vae"):
            encoded = vae.encode(image.to(self.checkpoint.device, vae.dtype)).latent_dist
        return normalize(encoded.sample(generator), vae.config).cpu().float()

    def _place(self, tensor: Tensor) -> Tensor:
        return denoise.to_device(tensor, self.checkpoint.device)

    @property
    def _sees_masks(self) -> bool:
        """Whether the UNet is one for inpainting."""
        return bool(self.checkpoint.unet.config.in_channels != self.checkpoint.vae.config.latent_channels)


def _widen(latents: Tensor, beside: Sequence[Tensor | None]) -> Tensor:
    """N latents (N, C, h, w) with the channels that an inpainting UNet sees beside them; as they are for any other."""
    present = [channels for channels in beside if channels is not None]
    return torch.cat([latents, torch.cat(present)], dim=1) if present else latents
