"""`promptmill history stats`: what was made, in numbers."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from db.blocks import DAY
from db.tally import Count
from producer.table import print_json_lines, print_table

#: Characters of the longest bar.
LONGEST = 30


def records(rows: Iterable[Count], by: str) -> Iterator[dict[str, Any]]:
    """Each as plain values; images a second are those of one device at work."""
    for row in rows:
        rate = row.images / row.seconds if row.seconds else None
        shown = _day(row.key) if isinstance(row.key, int) else row.key
        hours = row.seconds / 3600
        yield {
            by: shown,
            "images": row.images,
            "failures": row.failures,
            "images_per_second": rate,
            "gpu_hours": hours,
        }


def print_stats(rows: Iterable[Count], by: str, *, as_json: bool) -> None:
    """A table with a bar for the images of each, or JSON lines."""
    found = list(records(rows, by))
    if as_json:
        return print_json_lines(found)
    most = max((record["images"] for record in found), default=0) or 1
    header = (by, "images", "failures", "images/s", "GPU hours", "")
    print_table(header, (_line(record, by, most) for record in found))


def _line(record: dict[str, Any], by: str, most: int) -> tuple[object, ...]:
    rate = record["images_per_second"]
    bar = "█" * -(-record["images"] * LONGEST // most)
    shown = "" if rate is None else f"{rate:.2f}"
    return (record[by] or "", record["images"], record["failures"], shown, f"{record['gpu_hours']:.2f}", bar)


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY, timezone.utc).date().isoformat()
