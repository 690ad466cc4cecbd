"""The row count of a UNet call: found by measuring real work in passing, halved where memory runs out."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from worker.memory import DeviceMemory
from worker.profile import Findings, Speed

log = logging.getLogger(__name__)

#: Full calls that are timed at each row count, after one that is not.
CALLS = 5
#: Twice the rows must give so many times the images of a second.
GAIN = 1.03
#: Part of the memory that a call may take: the rest is lost between the blocks of the allocator.
FILL = 0.9
#: Rows to begin with where memory is not measured, and elsewhere at most.
FIRST_ROWS = 4
MOST_FIRST_ROWS = 16
#: Numbers in use at once by one row, for each latent and channel of the UNet's first block. SD 1.x has 26 and SDXL 16,
#: counted with fused attention.
NUMBERS = 32


def safe_rows(channels: int, latents: int, itemsize: int, memory: DeviceMemory) -> int:
    """A power of two that surely fits; the weights must be on the device.

    channels: of the UNet's first block; latents: height × width of a sample's; itemsize: bytes of a number.
    """
    if memory.limit is None:
        return FIRST_ROWS
    row = NUMBERS * channels * latents * itemsize
    fitting = int((FILL * memory.limit - memory.used()) / (2 * row))
    return max(2, min(MOST_FIRST_ROWS, 1 << max(fitting, 1).bit_length() - 1))


class Tuner:
    """Finds the row count that makes the most images a second, for one setup.

    It doubles `rows` as long as enough samples wait, each doubling pays, and memory lasts; then it stays. `keep` is
    called with fields of `Findings` that have changed.
    """

    def __init__(
        self,
        findings: Findings,
        keep: Callable[..., None],
        memory: DeviceMemory,
        *,
        first: int,
        most: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """first: rows to begin with where nothing is known; most: the highest `rows`."""
        self._findings, self._keep, self._memory = findings, keep, memory
        self._most, self._clock = most, clock
        self._seconds: list[float] = []
        self._measured = False
        """Whether the present rows have been timed, and more may be tried."""
        self._doubted = False
        """Whether the present rows are timed once more, since twice as many were no faster."""
        self.rows = self._begin(first)
        self.settled = findings.settled is not None or first >= most
        """Whether `rows` stays, but for running out of memory."""

    def freeze(self) -> None:
        """Stay at these rows from now on."""
        self.settled = True

    @contextmanager
    def timed(self, rows: int, waiting: int) -> Iterator[None]:
        """Around a UNet call with so many rows in use, while so many more wait: learn from it, unless settled."""
        if self._measured and not self.settled and waiting >= self.rows:
            self._double()
        # A call that is not full says nothing; with guidance the last row may have no use.
        if self.settled or self._measured or rows < self.rows - 1:
            yield
            return
        self._memory.synchronize()
        self._memory.forget_peak()
        used, started = self._memory.used(), self._clock()
        yield
        self._memory.synchronize()
        self._seconds.append((self._clock() - started) / rows)
        if len(self._seconds) > CALLS:
            self._conclude(used)

    def shrink(self, called: int, least: int) -> bool:
        """After a call of so many rows ran out of memory: halve them; False when one sample needs all (`least`)."""
        if called <= least:
            return False
        self.rows = max(least, called // 2)
        self.settled = True
        log.warning("Out of memory: going on with at most %d rows a UNet call.", self.rows)
        too_many = min(called, self._findings.too_many or called)
        self._learn(settled=self.rows, too_many=too_many, share=self._memory.share())
        return True

    def _begin(self, first: int) -> int:
        found = self._findings
        rows = found.settled or max(found.speeds, default=first)
        if found.too_many:
            rows = min(rows, max(1, found.too_many // 2))
        return min(rows, self._most)

    def _conclude(self, used: int) -> None:
        """Decide how to go on, after enough calls. used: bytes before the last one."""
        speed = Speed(round(1 / min(self._seconds[1:]), 4), self._memory.peak())
        self._seconds.clear()
        self._learn(speeds={self.rows: speed})
        if self._doubted:
            self._doubted = False
            if not self._pays(2 * self.rows):
                self._settle(self.rows)
                return
            self.rows *= 2
        elif self.rows // 2 in self._findings.speeds and not self._pays(self.rows):
            # Half was faster, or had the better moment: what else the machine did may have changed since.
            self._doubted = True
            self.rows //= 2
            return
        self._measured = True
        if not self._fits(2 * self.rows, used):
            self._settle(self.rows)
        elif 2 * self.rows > self._most:
            # Not for good: the next worker may be allowed more.
            self.settled = True

    def _pays(self, rows: int) -> bool:
        """Whether so many rows are faster than half of them."""
        speeds = self._findings.speeds
        return speeds[rows].rows_per_second >= GAIN * speeds[rows // 2].rows_per_second

    def _fits(self, rows: int, used: int) -> bool:
        """Whether so many rows can be expected to fit, by what half of them took beside the bytes used."""
        share, half = self._memory.share(), self._findings.speeds[rows // 2].peak
        roomy = share is None or used + 2 * (half - used) <= FILL * share
        return roomy and rows < (self._findings.too_many or rows + 1)

    def _double(self) -> None:
        self.rows *= 2
        self._measured = False

    def _settle(self, rows: int) -> None:
        self.rows, self.settled = rows, True
        speed = self._findings.speeds[rows]
        log.info("%d rows a UNet call are best here: %.2f rows a second.", rows, speed.rows_per_second)
        self._learn(settled=rows)

    def _learn(self, **found: Any) -> None:
        self._findings.learn(**found)
        self._keep(**found)
