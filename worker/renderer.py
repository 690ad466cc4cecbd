"""The tensors behind the engine: samples become flights, flights take steps, and land as pixels."""

import time
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageOps
from torch import Tensor

from worker import denoise
from worker.checkpoints import Checkpoint
from worker.errors import InitImageRefused, SizeRefused
from worker.sample import Pixels, Sample
from worker.samplers import Schedulers, Trajectory
from worker.text import PromptEmbeddings

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats of init images. Pillow knows more, some of which start other programs."""


@dataclass(slots=True)
class Flight:
    """A sample on the device."""

    sample: Sample
    latents: Tensor
    """(1, C, h, w) float32 on the device, whatever the UNet's own dtype."""
    trajectory: Trajectory
    positive: Tensor
    """(1, T, D)"""
    negative: Tensor | None
    """(1, T, D), None when unguided"""
    rows: int = 0
    """Rows of the largest UNet call so far."""
    started: float = field(default_factory=time.monotonic)
    error: Exception | None = None
    """What ended it early."""

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.trajectory.done


class Renderer:
    """Encode, denoise and decode with one checkpoint. Not thread-safe: the engine's thread owns it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._texts = PromptEmbeddings(checkpoint.tokenizer, checkpoint.text_encoder)
        self._schedulers = Schedulers(checkpoint.scheduler_config)

    def start(self, sample: Sample) -> Flight:
        """Put a sample on the device. Raises JobRefused when it cannot be."""
        shape = self._latent_shape(sample)
        generator = torch.Generator("cpu").manual_seed(sample.seed)
        trajectory = self._schedulers.start(sample, generator)
        latents = self._first_latents(sample, shape, trajectory, generator)
        return Flight(
            sample,
            latents.to(self.checkpoint.device),
            trajectory,
            self._texts.encode(sample.prompt),
            self._texts.encode(sample.negative_prompt) if sample.guided else None,
        )

    def step(self, flights: list[Flight]) -> None:
        """Take every flight one step further, in one UNet call; a flight whose sampler fails gets its `error`.

        Raises torch.OutOfMemoryError; then nothing has changed, and fewer flights may fit.
        """
        for flight, prediction in zip(flights, self._predict(flights), strict=True):
            try:
                flight.latents = flight.trajectory.step(prediction[None], flight.latents)
            except Exception as error:
                flight.error = error

    def decode(self, flights: list[Flight]) -> list[Pixels | None]:
        """The pictures of flights of one size; None for one that is not finite."""
        latents = torch.cat([flight.latents for flight in flights]).to(self.checkpoint.dtype)
        vae = self.checkpoint.vae
        decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        pixels, finite = (tensor.cpu().numpy() for tensor in denoise.to_pixels(decoded))
        return [image if good else None for image, good in zip(pixels, finite, strict=True)]

    def _predict(self, flights: list[Flight]) -> Tensor:
        """One UNet call: the guided prediction of every flight, (N, C, h, w) float32."""
        rows = denoise.assemble_rows(
            [flight.trajectory.scale(flight.latents) for flight in flights],
            [flight.trajectory.timestep for flight in flights],
            [flight.positive for flight in flights],
            [flight.negative for flight in flights],
        )
        device, dtype = self.checkpoint.device, self.checkpoint.dtype
        predictions: Tensor = self.checkpoint.unet(
            rows.latents.to(dtype), rows.timesteps.to(device), encoder_hidden_states=rows.text, return_dict=False
        )[0].float()
        for flight in flights:
            flight.rows = max(flight.rows, len(predictions))
        return denoise.guide(predictions, [f.sample.scale if f.sample.guided else None for f in flights])

    def _latent_shape(self, sample: Sample) -> tuple[int, int, int, int]:
        factor = self.checkpoint.factor
        for side, pixels in (("width", sample.width), ("height", sample.height)):
            if pixels % factor or pixels <= 0:
                raise SizeRefused(
                    f"The {side} {pixels} is not a multiple of {factor}, as {self.checkpoint.name} needs."
                )
        return 1, self.checkpoint.unet.config.in_channels, sample.height // factor, sample.width // factor

    def _first_latents(
        self, sample: Sample, shape: tuple[int, ...], trajectory: Trajectory, generator: torch.Generator
    ) -> Tensor:
        """On the CPU. The VAE draws from the generator before the noise does, as in the img2img pipeline."""
        if sample.init_image is None:
            return denoise.start_from_noise(denoise.draw_noise(shape, generator), trajectory.scheduler)
        clean = self._encode(sample, generator).cpu().float()
        noise = denoise.draw_noise(shape, generator)
        return denoise.start_from_image(clean, noise, trajectory.scheduler, trajectory.timesteps[:1])

    def _encode(self, sample: Sample, generator: torch.Generator) -> Tensor:
        """Latents of the init image, (1, C, h, w)."""
        image = denoise.image_to_tensor(_open_init_image(sample), sample.width, sample.height)
        vae = self.checkpoint.vae
        encoded = vae.encode(image.to(self.checkpoint.device, self.checkpoint.dtype)).latent_dist
        return vae.config.scaling_factor * encoded.sample(generator)  # type: ignore[no-any-return]


def _open_init_image(sample: Sample) -> Image.Image:
    assert sample.init_image is not None
    try:
        with Image.open(sample.init_image, formats=IMAGE_FORMATS) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InitImageRefused(f"The init image {sample.init_image} cannot be read: {error}.") from error
