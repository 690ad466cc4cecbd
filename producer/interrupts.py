"""Ctrl-C and SIGTERM, counted instead of raised, so that a batch is stopped between two steps and never in one."""

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """How often we were asked to stop while the block is open."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def __bool__(self) -> bool:
        return self.count > 0

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def raise_on_sigterm() -> None:
    """SIGTERM from now on is Ctrl-C: what is open is closed before we end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
