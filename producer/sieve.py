"""Tells what was surely not seen before, in memory that does not grow: a Bloom filter."""

from random import Random

WORDS = 21
"""Bits of a word's number: 16 MB, most of which no small file touches. Of a million things, hardly one seems seen."""
WORD, MASK = (1 << WORDS) - 1, (1 << 12) - 1
_draw = Random(0)
MASKS = [sum(1 << bit for bit in _draw.sample(range(64), 3)) for _ in range(MASK + 1)]


class Sieve:
    """Things pass it by their hashes; some hashes that are new to it stay in it with those that are not."""

    def __init__(self) -> None:
        self._words = memoryview(bytearray(8 << WORDS)).cast("Q")

    def passes(self, thing: int) -> bool:
        """Whether a hash of 64 bits was surely not seen before. It leaves three bits in each of two words."""
        words = self._words
        first, second = thing & WORD, (thing >> 31) & WORD
        mask, other = MASKS[(thing >> WORDS) & MASK], MASKS[(thing >> 52) & MASK]
        if words[first] & mask == mask and words[second] & other == other:
            return False
        words[first] |= mask
        words[second] |= other
        return True
