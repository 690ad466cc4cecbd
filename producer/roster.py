"""The workers as the ledger knows them: `promptmill workers`."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Row

from db import queries
from db.models import WorkerState
from producer.table import print_json_lines, print_table

HEADER = ("worker", "host", "device", "state", "jobs", "images/s", "memory", "on card", "seen", "checkpoint")


def print_workers(engine: Engine, lease_seconds: float, *, as_json: bool) -> None:
    """A table, or one JSON object a line with every field."""
    show_workers(find_workers(engine, lease_seconds), as_json=as_json)


def show_workers(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json_lines(found)
    else:
        print_table(HEADER, _lines(found, time.time()))


def find_workers(engine: Engine, lease_seconds: float) -> list[dict[str, Any]]:
    """All that are known, with every field of the ledger."""
    now = time.time()
    return [_record(row, now, lease_seconds) for row in queries.workers(engine)]


def _record(row: Row[Any], now: float, lease_seconds: float) -> dict[str, Any]:
    """A worker's row. One whose leases have ended by now counts as dead, whatever it said last."""
    found = dict(row._mapping)
    if now - row.seen_at > lease_seconds and row.state != WorkerState.STARTING.value:
        found |= {"state": WorkerState.DEAD.value, "rate": 0.0}
    return found


def _lines(workers: Iterable[Mapping[str, Any]], now: float) -> Iterable[tuple[object, ...]]:
    for worker in workers:
        yield (
            worker["name"],
            worker["host"],
            worker["device"] or "",
            worker["state"],
            worker["jobs_done"],
            f"{worker['rate']:.2f}",
            _size(worker["memory"]),
            _size(worker["vram"]),
            f"{max(0, now - worker['seen_at']):.0f} s ago",
            worker["model"] or "",
        )


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.1f}G"
