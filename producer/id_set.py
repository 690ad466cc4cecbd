"""A set of ids that lie close together, in a bit each: a million of them take 125 kB."""

from collections.abc import Iterator

#: Ids that share a block of bytes.
BLOCK = 1 << 15


class IdSet:
    """Ids of jobs; they come back in order."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        block, bit = divmod(number, BLOCK)
        self._blocks.setdefault(block, bytearray(BLOCK // 8))[bit >> 3] |= 1 << (bit & 7)

    def discard(self, number: int) -> None:
        block, bit = divmod(number, BLOCK)
        if found := self._blocks.get(block):
            found[bit >> 3] &= ~(1 << (bit & 7))

    def __iter__(self) -> Iterator[int]:
        for block in sorted(self._blocks):
            start = block * BLOCK
            for index, byte in enumerate(self._blocks[block]):
                yield from (start + index * 8 + bit for bit in range(8) if byte >> bit & 1)

    def __len__(self) -> int:
        return sum(bin(byte).count("1") for block in self._blocks.values() for byte in block if byte)

    def __bool__(self) -> bool:
        return any(any(block) for block in self._blocks.values())
