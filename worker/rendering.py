"""The seam between engine and renderers: what the engine knows of them, and of what they have in flight."""

from typing import Any, Protocol

from worker.opened import OpenedCheckpoint
from worker.room import Rooms
from worker.sample import Pixels, Sample, Variant


class InFlight(Protocol):
    """A sample on the device."""

    sample: Sample
    rows: int
    """Rows of the largest call so far, padding counted."""
    images: int
    """Images of the call that decoded it, padding counted."""
    exact: bool
    """Whether its bits are known not to depend on what shared its calls."""
    dtype: str
    """In which it was decoded."""
    variant: Variant
    """What else of the way it was made can change its bits."""
    started: float
    error: Exception | None
    """What ended it early."""

    @property
    def done(self) -> bool:
        """Whether no step is left."""


class AnyRenderer(Protocol):
    """Makes samples into pictures with one checkpoint; flights are those that the renderer itself has started.

    Not thread-safe: the engine's thread owns it.
    """

    @property
    def checkpoint(self) -> OpenedCheckpoint:
        """The open one."""

    @property
    def rooms(self) -> Rooms:
        """What fits on the device."""

    def start(self, sample: Sample) -> Any:
        """A flight. Raises JobRefused, OutOfMemory."""

    def step(self, flights: list[Any]) -> None:
        """Take flights of one size a step further; one that fails gets its `error`.

        Raises torch.OutOfMemoryError; then nothing has changed, and fewer flights may fit.
        """

    def decode(self, flights: list[Any]) -> list[Pixels | None]:
        """The pictures of flights that are done; None for one that has an `error`."""
