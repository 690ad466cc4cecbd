"""What the engine's thread has done so far, and what its time went on."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["text", "unet", "sampler", "vae", "safety", "open", "compile", "wait", "other"]
"""Prompts; UNet calls; noise and sampler steps; VAE calls; the safety checker; opening checkpoints; compiling, which
takes minutes; no work; all the rest."""


@dataclass(slots=True)
class Progress:
    """Counts, and a clock that is always in one stage. The engine's thread writes; any thread may read.

    On a GPU a stage holds the time until its work is handed over, and that of what it waits for.
    """

    steps: int = 0
    """UNet calls."""
    at: float = field(default_factory=time.monotonic)
    """Time of the last step (`time.monotonic`): a sign of life."""
    rows_used: int = 0
    """Rows of all calls that held a sample."""
    rows_possible: int = 0
    """Rows of all calls, had each been full."""
    images: int = 0
    switches: int = 0
    """Checkpoints opened."""
    seconds: "Counter[Stage]" = field(default_factory=Counter)
    """Time spent, by stage."""
    clock: Callable[[], float] = time.perf_counter
    _stage: Stage = "other"
    _since: float | None = None

    def count(self, used: int, possible: int) -> None:
        """One more UNet call, with so many of its rows used."""
        self.at = time.monotonic()
        self.steps += 1
        self.rows_used += used
        self.rows_possible += possible

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Charge the time of the block to a stage, but for what inner blocks charge to theirs."""
        outer = self._enter(stage)
        try:
            yield
        finally:
            self._enter(outer)

    def _enter(self, stage: Stage) -> Stage:
        now, left = self.clock(), self._stage
        if self._since is not None:
            self.seconds[left] += now - self._since  # type: ignore[assignment]
        self._since, self._stage = now, stage
        return left
