"""Rows that ask for what an earlier row of their file asks for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from producer.problems import Problem, Report
from producer.sieve import Sieve

if TYPE_CHECKING:
    from producer.prompts import Row

LISTED = 10
"""Most that are listed; all are counted."""
SEEDLESS = "these lines repeat earlier ones and, without a seed, become other images"
REPEATS = "asks for the same images as line {}; --once makes them once"


@dataclass(kw_only=True)
class Repeats:
    """Those of one file."""

    seeded: Report
    """With a seed, they become the very same images."""
    seedless: list[int] = field(default_factory=list)
    """The lines of those without: each is drawn a seed of its own, and becomes other images."""

    def messages(self) -> Iterator[str]:
        """Lines that tell of them."""
        yield from map(str, self.seeded.problems)
        if more := self.seeded.total - len(self.seeded.problems):
            yield f"{self.seeded.file}: {more} more rows repeat earlier ones"
        if self.seedless:
            yield str(Problem(self.seeded.file, 0, "", self._tell_seedless()))

    def _tell_seedless(self) -> str:
        lines = ", ".join(map(str, self.seedless[:LISTED])) + (", …" if len(self.seedless) > LISTED else "")
        return f"{SEEDLESS}: {lines}; --once makes the first alone"


class Watch:
    """Sees the rows of a file go by, and remembers those that may repeat earlier ones."""

    def __init__(self) -> None:
        self._sieve, self._suspects = Sieve(), set[int]()

    def see(self, row: "Row") -> None:
        asked = _asked(row)
        if not self._sieve.passes(asked):
            self._suspects.add(asked)

    def find(self, file: str, rows: "Callable[[], Iterator[Row]]") -> Repeats:
        """What is repeated; the rows are gone through again only where there seems to be something."""
        found, first = Repeats(seeded=Report(file, LISTED)), dict[int, int]()
        for row in rows() if self._suspects else ():
            asked = _asked(row)
            if asked not in self._suspects or first.setdefault(asked, row.line) == row.line:
                continue
            if row.parameters.seed is None:
                found.seedless.append(row.line)
            else:
                found.seeded.add(row.line, "", REPEATS.format(first[asked]))
        return found


def _asked(row: "Row") -> int:
    return hash((row.recipe, row.parameters.seed))
