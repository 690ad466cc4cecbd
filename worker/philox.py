"""Noise as torch.randn draws it on a CUDA device, on any device.

The generator is Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), the normal numbers
come from its words by Box and Muller's formula as cuRAND has it. Which thread makes which number is PyTorch's launch
rule (ATen/native/cuda/DistributionTemplates.h): blocks of 256 threads, as many as there are numbers, but no more than
run at once on the card; four words a thread and call, of which a thread takes further ones only where there are more
numbers than threads.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Numbers = NDArray[np.float32]

BLOCK = 256
"""Threads of a block."""
AT_ONCE = 4
"""Words of a call."""
ROUNDS = 10
MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
KEY_STEPS = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64)
LOW, SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
UNIT = np.float64(np.float32(2.0**-32))
ANGLE = np.float64(np.float32(2.0**-32) * np.float32(2 * np.pi))


def normal(seed: int, count: int, part: slice, *, calls: int = 0, threads: int | None = None) -> Numbers:
    """A part of ``torch.randn(count, device="cuda")``, after so many calls of a generator with the seed.

    threads: as for `calls_of`.
    """
    words, places = _draw(seed, count, part, calls, threads)
    first, second = words[places & ~np.int64(1), np.arange(len(places))], words[places | 1, np.arange(len(places))]
    # In float64, rounded where cuRAND's float32 is: its sine and cosine are fast ones, good to six digits.
    radius = np.sqrt(-2.0 * np.log((first.astype(np.float32) * UNIT + UNIT / 2).astype(np.float32)))
    angle = (second.astype(np.float32) * ANGLE + ANGLE / 2).astype(np.float32)
    numbers: Numbers = (np.where(places & 1, np.cos(angle), np.sin(angle)) * radius).astype(np.float32)
    return numbers


def uniform(seed: int, count: int, part: slice, *, calls: int = 0, threads: int | None = None) -> Numbers:
    """The same of ``torch.rand``."""
    words, places = _draw(seed, count, part, calls, threads)
    numbers = (words[places, np.arange(len(places))].astype(np.float32) * UNIT + UNIT / 2).astype(np.float32)
    return np.where(numbers == 1, np.float32(0), numbers)


def calls_of(count: int, threads: int | None = None) -> int:
    """Calls of each thread's generator in a draw of so many numbers.

    threads: the most that run at once: multiprocessors × the blocks each holds × 256. None: as many as are needed.
    """
    return -(-count // (_launched(count, threads) * AT_ONCE))


def _launched(count: int, threads: int | None) -> int:
    """Threads of a draw."""
    blocks = -(-count // BLOCK)
    return BLOCK * (blocks if threads is None else min(blocks, max(threads // BLOCK, 1)))


def _draw(seed: int, count: int, part: slice, calls: int, threads: int | None) -> tuple[Words, NDArray[np.int64]]:
    """Four words for each number of the part, (4, n), and which of them makes it, (n,)."""
    launched = _launched(count, threads)
    rounds, lanes = np.divmod(np.arange(*part.indices(count), dtype=np.int64), launched)
    return words_of(seed, (calls + rounds // AT_ONCE).astype(np.uint64), lanes.astype(np.uint64)), rounds % AT_ONCE


def words_of(seed: int, calls: NDArray[np.uint64], lanes: NDArray[np.uint64]) -> Words:
    """The four words that a call of each lane gives, (4, n); both arguments (n,)."""
    counter = [calls & LOW, calls >> SHIFT, lanes & LOW, lanes >> SHIFT]
    keys = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], dtype=np.uint64)
    for _ in range(ROUNDS):
        one, other = counter[0] * MULTIPLIERS[0], counter[2] * MULTIPLIERS[1]
        counter = [
            (other >> SHIFT) ^ counter[1] ^ keys[0],
            other & LOW,
            (one >> SHIFT) ^ counter[3] ^ keys[1],
            one & LOW,
        ]
        keys = (keys + KEY_STEPS) & LOW
    return np.stack(counter).astype(np.uint32)
