"""Start time of `promptmill --help` and `promptmill history`, against importing click and SQLAlchemy alone.

The commands take turns, so that a busy moment hits all of them; the best of each counts.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

PEER = "import click, sqlalchemy"
SCRIPT = str(Path(sys.executable).with_name("promptmill"))
DEMO = Path(__file__).parents[1] / "docs" / "demo.csv"
COMMANDS = {
    PEER: (sys.executable, "-c", PEER),
    "promptmill --help": (SCRIPT, "--help"),
    "promptmill history": (SCRIPT, "history"),
}


def seconds_of(command: Sequence[str], env: Mapping[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def best_times(rounds: int, env: Mapping[str, str]) -> dict[str, float]:
    """The best time of each command, in seconds; a first round, not counted, warms the disk cache."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, command in COMMANDS.items():
            times[name].append(seconds_of(command, env))
    return {name: min(found[1:]) for name, found in times.items()}


def report(best: Mapping[str, float]) -> None:
    for name, seconds in best.items():
        print(f"{name:<28}{seconds * 1000:>8.0f} ms{seconds / best[PEER]:>8.2f}")
    print(f"ratio: {max(best.values()) / best[PEER]:.2f}")


@click.command(help=__doc__)
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(1), help="Runs of each command.")
def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as home:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTMILL_")}
        env["PROMPTMILL_HOME"] = home
        # Without a queue this only records the demo's jobs, so that history has something to show.
        seconds_of((SCRIPT, "submit", str(DEMO)), env)
        report(best_times(rounds, env))


if __name__ == "__main__":
    main()
