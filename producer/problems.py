"""Problems of a prompt file: what is wrong, where, and what is allowed."""

from dataclasses import dataclass, field

from configs.plain_text import plain


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``line`` is the physical line where its record starts, from 1; 0 for the whole file."""

    file: str
    line: int
    column: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return plain(": ".join(part for part in (place, self.column, self.message) if part))


@dataclass(slots=True)
class Report:
    """Keeps the first ``limit`` problems of a file and counts them all."""

    file: str
    limit: int
    problems: list[Problem] = field(default_factory=list)
    total: int = 0

    def add(self, line: int, column: str, message: str) -> None:
        self.total += 1
        if len(self.problems) < self.limit:
            self.problems.append(Problem(self.file, line, column, message))
