"""Tells what was surely not seen before, in memory that does not grow: a Bloom filter."""

BITS = 27
"""Of a place: 16 MB, most of which no small file touches. Of a million things, 70 seem to have been seen."""
MASK = (1 << BITS) - 1


class Sieve:
    """Things pass it by their hashes; some hashes that are new to it stay in it with those that are not."""

    def __init__(self) -> None:
        self._seen = bytearray(1 << (BITS - 3))

    def passes(self, thing: int) -> bool:
        """Whether a hash of 64 bits was surely not seen before."""
        seen, low, high = self._seen, thing & MASK, (thing >> BITS) & MASK
        low_bit, high_bit = 1 << (low & 7), 1 << (high & 7)
        low >>= 3
        high >>= 3
        if seen[low] & low_bit and seen[high] & high_bit:
            return False
        seen[low] |= low_bit
        seen[high] |= high_bit
        return True
