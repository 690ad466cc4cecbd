"""The rows of an image's UNet calls, one after the other, as text: ``4*16 9*12 8``, where 16 came four times."""

from collections.abc import Iterable
from itertools import groupby

MOST = 10_000
"""Calls of an image: no sampler makes so many."""


def write_rows(calls: Iterable[int]) -> str:
    """The rows of calls in order."""
    runs = ((sum(1 for _ in same), rows) for rows, same in groupby(calls))
    return " ".join(f"{count}*{rows}" if count > 1 else str(rows) for count, rows in runs)


def read_rows(text: str) -> list[int]:
    """What `write_rows` has written. Raises ValueError for anything else."""
    calls: list[int] = []
    for run in text.split():
        count, _, rows = run.rpartition("*")
        if not 0 < int(count or 1) <= MOST - len(calls) or int(rows) < 1:
            raise ValueError(f"no rows of calls: {text:.80}")
        calls += [int(rows)] * int(count or 1)
    return calls
