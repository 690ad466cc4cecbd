"""Samples that have taken their last step, and wait for others to be decoded with."""

import time
from collections.abc import Callable, Container, Iterator

from worker.opened import OpenedCheckpoint
from worker.rendering import InFlight
from worker.request import Request
from worker.sample import Picture, Pixels, Shape


class Landed:
    """Requests by shape; those of one share a VAE call, of at most ``batch`` images. The engine's thread owns it."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._by_shape: dict[Shape, list[Request]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_shape)

    def __iter__(self) -> Iterator[Request]:
        return (request for requests in self._by_shape.values() for request in requests)

    def add(self, request: Request) -> None:
        self._by_shape.setdefault(request.shape, []).append(request)

    def leave_out(self, dropped: Container[Request]) -> None:
        """Wait no more for these."""
        kept = ((shape, [r for r in requests if r not in dropped]) for shape, requests in self._by_shape.items())
        self._by_shape = {shape: requests for shape, requests in kept if requests}

    def take(self) -> list[Request]:
        """All of them; none is left."""
        taken = list(self)
        self._by_shape.clear()
        return taken

    def batches(self, is_running: Callable[[Shape], object]) -> Iterator[list[Request]]:
        """What fills a VAE batch, and what nothing running will join."""
        for shape in list(self._by_shape):
            fewest = self._batch if is_running(shape) else 1
            while len(waiting := self._by_shape.get(shape, [])) >= fewest:
                self._by_shape[shape] = waiting[self._batch :]
                yield waiting[: self._batch]
            if not self._by_shape.get(shape):
                self._by_shape.pop(shape, None)


def picture_of(
    checkpoint: OpenedCheckpoint, flight: InFlight, pixels: Pixels, safety_score: float | None = None
) -> Picture:
    """What became of a flight, with its provenance."""
    return Picture(
        pixels=pixels,
        seconds=time.monotonic() - flight.started,
        rows=flight.rows,
        images=flight.images,
        exact=flight.exact,
        device=checkpoint.device_name,
        dtype=flight.dtype,
        checkpoint_hash=checkpoint.hash,
        variant=flight.variant,
        safety_score=safety_score,
    )
