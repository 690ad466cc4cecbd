"""How many chunks a worker has in work: as many as its engine can use, taken one at a time.

Fewer would leave rows empty. More would be kept from other workers, and from urgent chunks sent in the meantime.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.bootsteps import StartStopStep
from celery.worker.consumer import Tasks


class Intake:
    """Open while the engine is hungry and no chunk is on its way there. Its methods may be called from any thread."""

    def __init__(self, is_hungry: Callable[[], bool]) -> None:
        self._is_hungry = is_hungry
        self._coming = 0
        self._lock = threading.Lock()
        self.listener, self._caller = socket.socketpair()
        for end in (self.listener, self._caller):
            end.setblocking(False)

    @property
    def is_open(self) -> bool:
        """Whether a chunk may be taken."""
        return not self._coming and self._is_hungry()

    def expect(self, **_: object) -> None:
        """A chunk has been taken."""
        with self._lock:
            self._coming += 1

    def arrive(self) -> None:
        """The samples of a chunk are with the engine, or it has none."""
        with self._lock:
            self._coming -= 1
        self.wake()

    def wake(self) -> None:
        """Have Celery look again: else it does so once a second."""
        with suppress(BlockingIOError):
            self._caller.send(b".")

    def listen(self) -> None:
        """Called by Celery's event loop; that it turns is enough."""
        with suppress(BlockingIOError):
            self.listener.recv(4096)


def intake_step(intake: Intake) -> type[StartStopStep]:
    """The step that lets Celery's consumer take a message only while the intake is open."""

    class IntakeStep(StartStopStep):  # type: ignore[misc]
        requires = (Tasks,)

        def start(self, consumer: Any) -> None:
            # The way in which Celery itself holds the consumer back when `worker_disable_prefetch` is set.
            qos = consumer.task_consumer.channel.qos
            can_consume = qos.can_consume
            qos.can_consume = lambda: intake.is_open and can_consume()

        def register_with_event_loop(self, _consumer: Any, hub: Any) -> None:
            hub.add_reader(intake.listener.fileno(), intake.listen)

    return IntakeStep
