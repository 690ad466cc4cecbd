"""Rows a second from a CSV file to committed and sent, against a plain loop of one Celery ``delay`` a row.

Both send to one private queue server. Promptmill's side is the command `promptmill submit` from its start to its end:
it checks every row, records every job durably, and sends chunks. The peer's side is the loop alone, without start or
imports; it checks and records nothing.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click

from producer.embedded import EmbeddedQueue

#: ``ru_maxrss`` counts kilobytes, but bytes on macOS.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Submitted(NamedTuple):
    """What one `promptmill submit` took."""

    seconds: float
    peak_bytes: int


def write_rows(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("prompt", "seed", "steps"))
        writer.writerows((f"a castle in the clouds, number {i}", i, 20 + i % 30) for i in range(rows))


def submit(path: Path, home: Path, broker_url: str) -> Submitted:
    """Run `promptmill submit` in a process of its own."""
    env = {**os.environ, "PROMPTMILL_HOME": str(home), "PROMPTMILL_BROKER_URL": broker_url}
    command = [sys.executable, "-m", "producer", "submit", str(path)]
    started = time.perf_counter()
    # A child's peak is never less than ours was when it was forked: so nothing heavy is imported before this.
    process = subprocess.Popen(command, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"promptmill submit ended with exit code {process.returncode}.")
    return Submitted(seconds, usage.ru_maxrss * MAXRSS_UNIT)


def render(**_row: str) -> None:
    """The peer's task; nobody runs it."""


def delay_each(path: Path, broker_url: str) -> float:
    """Send one message a row, as a plain Celery program does; returns the loop's seconds."""
    from celery import Celery

    app = Celery("peer", broker=broker_url, set_as_current=False)
    app.conf.task_ignore_result = True
    task = app.task(name="peer.render")(render)
    with path.open(encoding="utf-8", newline="") as file:
        started = time.perf_counter()
        for row in csv.DictReader(file):
            task.delay(**row)
        return time.perf_counter() - started


def report(rows: int, submitted: Submitted, peer_rows: int, peer_seconds: float) -> None:
    rate, peer_rate = rows / submitted.seconds, peer_rows / peer_seconds
    print(f"{'':<22}{'rows':>10}{'seconds':>10}{'rows/s':>10}{'peak MB':>10}")
    megabytes = submitted.peak_bytes / 1e6
    print(f"{'promptmill submit':<22}{rows:>10}{submitted.seconds:>10.2f}{rate:>10.0f}{megabytes:>10.0f}")
    print(f"{'one delay a row':<22}{peer_rows:>10}{peer_seconds:>10.2f}{peer_rate:>10.0f}{'':>10}")
    print(f"ratio: {rate / peer_rate:.1f}")


@click.command(help=__doc__)
@click.option("--rows", default=100_000, show_default=True, type=click.IntRange(1), help="Rows of the file submitted.")
@click.option("--peer-rows", default=2_000, show_default=True, type=click.IntRange(1), help="Rows of the peer's loop.")
def main(rows: int, peer_rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as folder:
        home = Path(folder)
        write_rows(home / "rows.csv", rows)
        write_rows(home / "peer.csv", peer_rows)
        with EmbeddedQueue(home) as queue:
            submitted = submit(home / "rows.csv", home, queue.url)
            peer_seconds = delay_each(home / "peer.csv", queue.url)
    report(rows, submitted, peer_rows, peer_seconds)


if __name__ == "__main__":
    main()
