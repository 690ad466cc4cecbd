"""Times of fifteen typical questions to a large ledger, against the same ones asked by LIKE; of stats, and of inserts.

The peer keeps what it knows of an image as one text, as the best one does, and looks through them with LIKE, newest
first, for a page; it then counts all that it finds, to show how many. Its table lies beside ours in the same SQLite.
"""

import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Engine, text

from benchmarks.history.drawn import NOW, Drawn, new_job
from benchmarks.history.figures import Asked, Figures, Timing, record
from benchmarks.history.ledgers import Pair, create_batch, pairs, seconds, vacuum
from benchmarks.history.questions import SORTED, questions
from db.ledger import Ledger
from db.reading import read
from db.search import ORDERS, count, find
from db.tally import COUNTED_BY, tally
from producer.query import parse

Act = Callable[[], Any]
PAGE, TRIES, FEW_TRIES, ROUNDS = 50, 20, 3, 12
#: Rows of a transaction of `promptmill submit`, and rows recorded in a round.
RECORDED, ROUND = 5_000, 10_000
TABLES = Path(__file__).parents[1] / "docs" / "performance.md"
VERSION = {"sqlite": "SELECT 'SQLite ' || sqlite_version()", "postgresql": "SELECT 'PostgreSQL ' || version()"}


def timed(act: Callable[[], object], tries: int = TRIES) -> Timing:
    times = sorted(seconds(act) * 1e3 for _ in range(tries))
    return Timing(statistics.median(times), times[-(-95 * tries // 100) - 1])


def ask(ledger: Ledger, jobs: int) -> Asked:
    """Each question for a page of fifty; and for that and how many there are, up to 10,000."""
    asked = [parse(question.ours, NOW) for question in questions(jobs)]
    pages = [partial(find, ledger.engine, query, limit=PAGE) for query in asked]
    counts = [partial(count, ledger.engine, query) for query in asked]
    return _asked(pages, counts, TRIES)


def ask_peer(ledger: Ledger, jobs: int) -> Asked:
    """The same, and the peer counts all; a count is a walk through the whole table."""
    page = "SELECT * FROM peer WHERE {} ORDER BY created_at DESC LIMIT 50".format
    every = "SELECT count(*) FROM peer WHERE {}".format
    looked = [
        [partial(read, ledger.engine, text(form(question.theirs).replace(":", "\\:"))) for question in questions(jobs)]
        for form in (page, every)
    ]
    return _asked(looked[0], looked[1], FEW_TRIES)


def _asked(pages: Sequence[Act], counts: Sequence[Act], tries: int) -> Asked:
    both = [lambda page=page, count=count: (page(), count()) for page, count in zip(pages, counts, strict=True)]
    return Asked([timed(page, tries) for page in pages], [timed(act, FEW_TRIES) for act in both])


def ask_sorted(engine: Engine, sort: str) -> list[Timing]:
    """A page in that order, with each filter."""
    asked = [parse(query, NOW) for query in SORTED]
    return [timed(partial(find, engine, query, limit=PAGE, sort=sort), 2 * FEW_TRIES) for query in asked]


def ask_stats(engine: Engine) -> Timing:
    return max((timed(partial(tally, engine, parse("", NOW), by)) for by in COUNTED_BY), key=lambda timing: timing.slow)


def compare_inserts(pair: Pair, jobs: int) -> tuple[float, float]:
    """Both in turn, so that what else the machine does falls on both; the best round of each counts."""
    draw = Drawn(jobs)
    rounds = [(_insert(pair.small, draw), _insert(pair.large, draw)) for _ in range(ROUNDS)]
    few, many = (min(costs) for costs in zip(*rounds, strict=True))
    for ledger in pair:
        vacuum(ledger)
    return few, many


def _insert(ledger: Ledger, draw: Drawn) -> float:
    """Microseconds that recording a job takes, as `promptmill submit` does; the jobs are removed again."""
    batch_id = create_batch(ledger)
    new = [new_job({**draw.job(number), "batch_id": batch_id}) for number in range(1, ROUND + 1)]
    slices = [new[start : start + RECORDED] for start in range(0, ROUND, RECORDED)]
    cost = sum(seconds(partial(ledger.add_jobs, some)) for some in slices) / ROUND * 1e6
    ledger.discard_batch(batch_id)
    return cost


def measure(figures: Figures, pair: Pair) -> None:
    name, engine = pair.database, pair.large.engine
    figures.loads.append(os.getloadavg()[0])
    click.echo(f"--- {name}, {figures.jobs} jobs; load {figures.loads[-1]:.1f}")
    figures.servers[name] = " ".join(
        str(read(engine, text(VERSION[name]))[0][0]).replace("PostgreSQL P", "P").split()[:2]
    )
    figures.asked[name] = ask(pair.large, figures.jobs)
    if name == "sqlite":
        figures.asked["like"] = ask_peer(pair.large, figures.jobs)
    figures.stats[name] = ask_stats(engine)
    figures.sorts[name] = {sort: ask_sorted(engine, sort) for sort in ORDERS}
    figures.inserts[name] = compare_inserts(pair, figures.jobs)
    figures.loads.append(os.getloadavg()[0])


def summary(figures: Figures) -> None:
    for name, asked in figures.asked.items():
        if name != "like":
            click.echo(f"{name}: slowest p95 {max(timing.slow for timing in asked.page):.1f} ms (aim 50)")
    page, counted = (statistics.median(figures.ratios(way)) for way in ("page", "counted"))
    click.echo(f"ratio: {counted:.1f}  (LIKE to ours in SQLite, median; a page alone {page:.1f}; aim 20)")


@click.command(help=__doc__)
@click.option("--jobs", default=1_000_000, show_default=True, type=click.IntRange(1000), help="In the ledger.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the ledgers here, and use those that are here from the last time.",
)
@click.option("--record", "recorded", is_flag=True, help="Write the tables into docs/performance.md.")
def main(jobs: int, folder: Path | None, recorded: bool) -> None:
    figures = Figures(jobs, [question.ours for question in questions(jobs)], SORTED)
    with pairs(jobs, folder) as found:
        for pair in found:
            measure(figures, pair)
            for ledger in pair:
                ledger.engine.dispose()
    click.echo(figures.markdown())
    summary(figures)
    if recorded:
        record(TABLES, figures.markdown())


if __name__ == "__main__":
    main()
