"""``python -m tests.chaos.table RECORD...``: writes what runs have shown into docs/reliability.md."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import click

from tests.chaos.campaign import Outcome
from tests.chaos.site import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- written by tests.chaos.table: begin -->", "<!-- end -->"


@click.command()
@click.argument("records", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(records: tuple[Path, ...]) -> None:
    """Put the table of faults of these runs into the page."""
    runs = [json.loads(path.read_text("utf-8")) for path in records]
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{describe(runs)}\n\n{tabulate(merge(runs))}"
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def merge(runs: list[dict[str, Any]]) -> list[Outcome]:
    """The outcomes of all runs, by fault."""
    merged: dict[str, Outcome] = {}
    for run in runs:
        for fields in run["outcomes"]:
            merged.setdefault(fields["fault"], Outcome(fields["fault"], fields["until"], fields["kills"])).add(
                Outcome(**fields)
            )
    return list(merged.values())


def describe(runs: list[dict[str, Any]]) -> str:
    """A row for each run."""
    lines = ["| Run | Celery | Queue | kill -9 | Other faults | Jobs | Lost | Twice |", "|---" * 8 + "|"]
    for run in runs:
        outcomes = [Outcome(**fields) for fields in run["outcomes"]]
        kills = sum(outcome.injected for outcome in outcomes if outcome.kills)
        others = sum(outcome.injected for outcome in outcomes if not outcome.kills)
        sums = [sum(getattr(outcome, name) for outcome in outcomes) for name in ("jobs", "lost", "twice")]
        shown = [f"{number:,}" for number in (kills, others, *sums)]
        words = f"`--seed {run['seed']} --share {run['share']:g}`"
        cells = [words, run["celery"], run["server"], *shown]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tabulate(outcomes: list[Outcome]) -> str:
    """A row for each fault."""
    heads = ("Fault", "Injected", "Jobs", "Lost", "Twice", "Seconds to recover: median", "at most", "Recovered is")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for outcome in outcomes:
        times = outcome.seconds
        took = [f"{median(times):.1f}", f"{max(times):.1f}", outcome.until] if times else ["–", "–", "–"]
        counts = [f"{number:,}" for number in (outcome.injected, outcome.jobs, outcome.lost, outcome.twice)]
        lines.append(f"| {' | '.join([outcome.fault, *counts, *took])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
