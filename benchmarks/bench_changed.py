"""Seconds of `promptmill submit --changed` with a few edited rows, against submitting the whole edited file.

Both are the command from its start to its end, with no queue: what differs is what is looked up and recorded.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click


def write_rows(path: Path, rows: int, edited: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("prompt", "seed", "steps"))
        every = rows // max(edited, 1)
        for i in range(rows):
            changed = edited and i % every == 0 and i // every < edited
            writer.writerow((f"a {'tower' if changed else 'castle'} in the clouds, number {i}", i, 20 + i % 30))


def submit(path: Path, home: Path, *flags: str) -> tuple[float, str]:
    """Run `promptmill submit` in a process of its own: seconds, and what it says."""
    env = {**os.environ, "PROMPTMILL_HOME": str(home)}
    started = time.perf_counter()
    command = [sys.executable, "-m", "producer", "submit", str(path), *flags]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return time.perf_counter() - started, done.stdout


@click.command(help=__doc__)
@click.option("--rows", default=100_000, show_default=True, type=click.IntRange(1), help="Rows of the file.")
@click.option("--edited", default=7, show_default=True, type=click.IntRange(0), help="Rows that are edited.")
def main(rows: int, edited: int) -> None:
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as folder:
        path, home = Path(folder, "rows.csv"), Path(folder, "home")
        write_rows(path, rows, 0)
        first, _ = submit(path, home)
        write_rows(path, rows, edited)
        changed, said = submit(path, home, "--changed")
        whole, _ = submit(path, home)
    print("\n".join(line for line in said.splitlines() if "rows:" in line or line.startswith("Batch")))
    print(f"{'':<26}{'rows':>10}{'seconds':>10}")
    for name, seconds in (("first submit", first), ("submit --changed", changed), ("submit of all of it", whole)):
        print(f"{name:<26}{rows:>10}{seconds:>10.2f}")
    print(f"ratio: {whole / changed:.1f}")


if __name__ == "__main__":
    main()
