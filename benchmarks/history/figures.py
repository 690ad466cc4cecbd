"""The figures of a run, as tables in Markdown."""

import os
import platform
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

#: Where the tables stand in the page that has them.
BEGIN, END = "<!-- written by benchmarks/bench_history.py -->", "<!-- end of what it has written -->"


NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Timing(NamedTuple):
    """Median and 95th percentile, in ms."""

    middle: float
    slow: float

    def __str__(self) -> str:
        return f"{self.middle:.1f} / {self.slow:.1f}"


class Asked(NamedTuple):
    """What one database took for each question: a page; and a page and how many there are."""

    page: list[Timing]
    counted: list[Timing]


@dataclass
class Figures:
    """Of one run, by database; the peer's are under ``like``."""

    jobs: int
    questions: Sequence[str]
    #: With which the orders were timed.
    filters: Sequence[str]
    asked: dict[str, Asked] = field(default_factory=dict)
    #: The slowest of all that `history stats` counts by.
    stats: dict[str, Timing] = field(default_factory=dict)
    #: By database and order: with each filter.
    sorts: dict[str, dict[str, list[Timing]]] = field(default_factory=dict)
    #: Microseconds a job, in a small and in a large ledger.
    inserts: dict[str, tuple[float, float]] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)

    def ratios(self, way: str) -> list[float]:
        """How many times as long the peer takes, question by question, by the medians in SQLite."""
        ours, theirs = (getattr(self.asked[name], way) for name in ("sqlite", "like"))
        return [their.middle / our.middle for our, their in zip(ours, theirs, strict=True)]

    def markdown(self) -> str:
        return "\n\n".join((self._head(), _lines(self._pages()), _lines(self._sorts()), _lines(self._others()), END))

    def _head(self) -> str:
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}"
        servers = ", ".join(self.servers.values())
        load = f"load {min(self.loads):.1f} to {max(self.loads):.1f}"
        return f"{BEGIN}\n{self.jobs:,} jobs; {servers}; {machine}; {time.strftime('%Y-%m-%d', time.gmtime())}, {load}."

    def _pages(self) -> Iterator[Sequence[object]]:
        ours = [name for name in self.asked if name != "like"]
        yield "Query", *map(NAMES.get, ours), "LIKE", "ratio", "SQLite with the number", "LIKE with the number", "ratio"
        few, many = self.ratios("page"), self.ratios("counted")
        like, sqlite = self.asked["like"], self.asked["sqlite"]
        for at, question in enumerate(self.questions):
            cells = (self.asked[name].page[at] for name in ours)
            counted = (sqlite.counted[at], like.counted[at], f"{many[at]:.1f}")
            yield f"`{question}`", *cells, like.page[at], f"{few[at]:.1f}", *counted
        slowest = (f"{max(timing.slow for timing in self.asked[name].page):.1f}" for name in ours)
        yield "slowest 95th percentile (aim: 50)", *slowest, "", "", "", "", ""
        blank = [""] * len(ours)
        yield "median of the ratios (aim: 20)", *blank, "", f"{median(few):.1f}", "", "", f"{median(many):.1f}"

    def _sorts(self) -> Iterator[Sequence[object]]:
        yield "95th percentile in ms", *(f"`{query}`" if query else "all" for query in self.filters)
        for name, orders in self.sorts.items():
            for order, timings in orders.items():
                yield f"{NAMES[name]} `--sort {order}`", *(f"{timing.slow:.1f}" for timing in timings)

    def _others(self) -> Iterator[Sequence[object]]:
        yield "", *map(NAMES.get, self.stats), "Aim"
        yield "`history stats`, by any key, p95", *(f"{timing.slow:.1f} ms" for timing in self.stats.values()), "300 ms"
        yield "a job recorded among 10,000", *(f"{few:.1f} µs" for few, _ in self.inserts.values()), ""
        cost = (f"{many:.1f} µs, {many / few:.2f} times" for few, many in self.inserts.values())
        yield f"a job recorded among {self.jobs:,}", *cost, "1.2 times"


def _lines(rows: Iterable[Sequence[object]]) -> str:
    head, *rest = rows
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rest))


def record(page: Path, written: str) -> None:
    """Put the tables in the place of those of the run before."""
    parts = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    found, places = parts.subn(lambda _: written, page.read_text("utf-8"))
    assert places == 1, f"{page} has no place for the tables"
    page.write_text(found, "utf-8")
