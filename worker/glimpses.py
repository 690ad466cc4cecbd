"""A thread that shows samples in flight to those who wait for them: steps, and a small picture of the latents.

It reads what the engine's thread writes anyway, and asks nothing of it.
"""

import base64
import io
import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from PIL import Image

from configs.checkpoints import DEMO
from db.glimpses import Glimpse, answer, connected, wishes

if TYPE_CHECKING:
    import torch
    from celery import Celery

    from worker.rendering import InFlight

log = logging.getLogger(__name__)

#: Seconds between two looks; without a job that somebody may wait for, nobody is asked.
INTERVAL = 1.0
#: Previews of one look: each takes some 5 ms of a CPU.
MOST_PREVIEWS = 4
#: Latents of a longer side are shrunk to it.
LONGEST = 96
QUALITY = 60
#: Red, green and blue of the four channels of Stable Diffusion 1, fitted by least squares
#: (https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204).
SD1 = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))
#: The same of the demo checkpoint, fitted to pictures as it is trained on (R² 0.83).
OF_DEMO = ((0.318, 0.286, -0.165), (-0.318, 0.017, 0.484), (-0.194, 0.376, -0.039), (-0.608, -0.173, -0.438))


class Glimpses:
    """A thread while the block is open."""

    def __init__(self, app: "Celery", in_flight: "Callable[[], Mapping[int, InFlight]]") -> None:
        self._app, self._in_flight = app, in_flight
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show_until_stopped, name="glimpses", daemon=True)

    def __enter__(self) -> "Glimpses":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(2)

    def show(self, channel: Any) -> None:
        """Answer those who look at what is in flight now."""
        try:
            flights = self._in_flight()
        except RuntimeError:  # The engine's thread has just changed what was gone through.
            return
        if not flights:
            return
        for number, (job_id, wants_preview) in enumerate(wishes(channel, list(flights)).items()):
            preview = wants_preview and number < MOST_PREVIEWS
            answer(channel, job_id, glimpse_of(flights[job_id], preview=preview))

    def _show_until_stopped(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                with connected(self._app) as channel:
                    while not self._stop.wait(INTERVAL):
                        self.show(channel)
            except Exception as error:  # Whatever it is, images are made without.
                log.debug("No glimpse can be shown: %s", error)
                self._stop.wait(5)


def glimpse_of(flight: "InFlight", *, preview: bool) -> Glimpse:
    """How far a sample is; one of a checkpoint's own pipeline is a single step."""
    # Here, and in the next: a worker whose engine is another has no use for the libraries of this one.
    from worker.renderer import Flight
    from worker.trajectories import TableTrajectory

    if not isinstance(flight, Flight):
        return Glimpse(0, 0)
    way = flight.trajectory
    timesteps = way.table.timesteps if isinstance(way, TableTrajectory) else way.timesteps
    return Glimpse(way.index, len(timesteps), preview_of(flight.latents, flight.sample.model) if preview else "")


def preview_of(latents: "torch.Tensor", model: str = "") -> str:
    """Latents of shape (1, C, h, w) as WebP in base64; empty where they have not four channels."""
    import torch

    factors = torch.tensor(OF_DEMO if model == DEMO else SD1)
    if latents.shape[1] != len(factors):
        return ""
    small = latents.detach()[0].to("cpu", torch.float32)
    # Full of noise, they are larger than the VAE's own.
    small = small / small.std().clamp(min=1.0)
    rgb = torch.einsum("chw,cd->hwd", small, factors)
    pixels = ((rgb + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
    image = Image.fromarray(pixels.numpy())
    image.thumbnail((LONGEST, LONGEST))
    written = io.BytesIO()
    image.save(written, "WEBP", quality=QUALITY, method=0)
    return base64.b64encode(written.getvalue()).decode()
