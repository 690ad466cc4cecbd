"""What the engine has of a sample that somebody wants: whom to tell, and how far it is."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from worker.rendering import InFlight
from worker.sample import Picture, Sample, Shape


@dataclass(eq=False, slots=True)
class Request:
    """A sample, whom to tell, and its flight once it is on the device."""

    sample: Sample
    priority: int
    alone: bool
    """Whether nothing else is in the making while it is."""
    on_board: Callable[[], object]
    """Called when it is about to touch the device."""
    future: "Future[Picture]" = field(default_factory=Future)
    boarded: bool = False
    flight: InFlight | None = None

    @property
    def shape(self) -> Shape:
        """Samples of one shape can share a call."""
        return self.sample.shape

    @property
    def rows(self) -> int:
        """Rows that it takes in a call."""
        return self.sample.rows

    def board(self) -> bool:
        """Let it touch the device; False when it was cancelled before."""
        if not self.boarded and self.future.set_running_or_notify_cancel():
            self.boarded = True
            self.on_board()
        return self.boarded


def flights(requests: list[Request]) -> list[InFlight]:
    """Of those that have one."""
    return [request.flight for request in requests if request.flight is not None]


def cancel(requests: list[Request]) -> None:
    """Give back requests that were never started."""
    for request in requests:
        request.future.cancel()
        # Without it those who wait in `as_completed` would never hear of it.
        request.future.set_running_or_notify_cancel()


def refuse(requests: list[Request], error: Exception) -> None:
    """Fail requests that never got a flight."""
    for request in requests:
        if request.boarded or request.future.set_running_or_notify_cancel():
            request.future.set_exception(error)
