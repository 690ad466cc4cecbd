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
    before_tail: tuple[int, int] = (0, 0)
    """The last two when the last sample was begun: nothing was left to fill the calls after it."""
    images: int = 0
    switches: int = 0
    """Checkpoints opened."""
    seconds: "Counter[Stage]" = field(default_factory=Counter)
    """Time spent, by stage."""
    clock: Callable[[], float] = time.perf_counter
    on_stage: Callable[[Stage], object] = lambda _: None
    """Called on the engine's thread whenever the stage changes: keep it short."""
    _stage: Stage = "other"
    _since: float | None = None

    def count(self, used: int, possible: int) -> None:
        """One more UNet call, with so many of its rows used."""
        self.at = time.monotonic()
        self.steps += 1
        self.rows_used += used
        self.rows_possible += possible

    def begin(self) -> None:
        """One more sample is in flight."""
        self.before_tail = self.rows_used, self.rows_possible

    def forget(self) -> None:
        """Count from here on; where the clock is, it stays."""
        self.steps = self.rows_used = self.rows_possible = self.images = 0
        self.before_tail = 0, 0
        self.seconds.clear()

    @property
    def share_used(self) -> float:
        """Of the rows of all calls."""
        return self.rows_used / max(1, self.rows_possible)

    @property
    def share_used_before_tail(self) -> float:
        """Of the rows of the calls before the last sample was begun."""
        return self.before_tail[0] / max(1, self.before_tail[1])

    def __str__(self) -> str:
        total = sum(self.seconds.values()) or 1.0
        stages = (f"{stage} {seconds / total:.1%}" for stage, seconds in self.seconds.most_common())
        used = f"{self.share_used:.1%} used, {self.share_used_before_tail:.1%} before the last image was begun"
        return f"{self.images} images in {self.steps} UNet calls, rows {used}; time: {', '.join(stages)}"

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Charge the time of the block to a stage, but for what inner blocks charge to theirs."""
        outer = self._enter(stage)
        try:
            yield
        finally:
            self._enter(outer)

    def beat(self) -> None:
        """A sign of life within a stage."""
        self.on_stage(self._stage)

    def _enter(self, stage: Stage) -> Stage:
        now, left = self.clock(), self._stage
        if self._since is not None:
            self.seconds[left] += now - self._since  # type: ignore[assignment]
        self._since, self._stage = now, stage
        self.on_stage(stage)
        return left
