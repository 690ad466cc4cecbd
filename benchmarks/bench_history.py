"""Times of fifteen typical questions to a large ledger, against the same ones asked by LIKE; of stats, and of inserts.

The peer keeps what it knows of an image as one text, as the best one does, and looks through them with LIKE, newest
first. Its table lies beside ours in the same SQLite.
"""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import click
from msgspec import json
from sqlalchemy import text

from configs.checkpoints import SHIPPED
from db import blocks, job_text
from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from db.reading import read
from db.search import find
from db.tally import COUNTED_BY, tally
from producer.query import parse
from tests.postgres import Server, programs

#: When the last job ended, and seconds between two.
NOW, PACE = 1.8e9, 2.0
BATCH, PAGE, TRIES, PEER_TRIES, ROUNDS = 10_000, 50, 20, 3, 5
#: Rows of a transaction here, rows of one of `promptmill submit`, and rows recorded in a round.
SLICE, RECORDED, ROUND = 10_000, 5_000, 10_000
STYLES = ["sharp focus", "highly detailed", "oil on canvas", "golden hour", "soft light", "4k", "baroque", "in the fog"]
SAMPLERS = ["DPM++ 2M Karras"] * 6 + ["Euler a"] * 3 + ["DDIM"]
MODELS = ["demo"] * 7 + ["stabilityai/stable-diffusion-2-1"] * 2 + ["runwayml/stable-diffusion-v1-5"]
#: Of a server with memory, that keeps what it is told.
SERVER = ("shared_buffers=1GB", "autovacuum=off")
Timing = tuple[float, float]


class Question(NamedTuple):
    """In our query language, and the condition that a peer would look for in its text."""

    ours: str
    theirs: str


def questions(jobs: int) -> Iterator[Question]:
    fact = "json_extract(facts, '$.{}')".format
    middle = f"{NOW - jobs * PACE / 2:.0f}"
    steps, scale = f"{fact('steps')} BETWEEN 20 AND 30", f"{fact('scale')} > 7"
    late, early = f"{fact('finished')} > {NOW - 2 * 86_400}", f"{fact('finished')} < {middle}"
    yield Question("castle", _like("castle"))
    yield Question('"sharp focus"', _like("sharp focus"))
    yield Question('castle "golden hour"', _like("castle", "golden hour"))
    yield Question("red -castle", _like("red") + " AND NOT " + _like("castle"))
    yield Question("zeppelin", _like("zeppelin"))
    yield Question("lighth*", _like("lighth"))
    yield Question("castle steps:20..30", f"{_like('castle')} AND {steps}")
    yield Question("seed:4242", _like('"seed":4242,'))
    yield Question("steps:20..30 scale>7", f"{steps} AND {scale}")
    yield Question("sampler:ddim since:2d", f"{_like('DDIM')} AND {late}")
    yield Question("batch:7 state:failed", _like('"batch_id":7,', '"state":"failed"'))
    yield Question("tag.category:Animals", _like('"category":"Animals"'))
    yield Question("flagged:yes", _like('"flagged":"flat"'))
    yield Question("size:512x768 took>7s", _like('"height":768') + f" AND {fact('seconds')} > 7")
    yield Question(f"model:{MODELS[-1]} before:{middle}", f"{_like(MODELS[-1])} AND {early}")


def _like(*words: str) -> str:
    return " AND ".join(f"facts LIKE '%{some}%'" for some in words)


class Drawn:
    """Jobs and images like those of people: words as frequent as Zipf has it, ten thousand jobs a batch."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._random = jobs, random.Random(7)
        merges = (SHIPPED / "clip" / "merges.txt").read_text("utf-8").splitlines()[1:]
        words = (line.replace(" ", "").removesuffix("</w>") for line in merges if line.endswith("</w>"))
        # In the order of how frequent they are.
        self._words = [word for word in words if word.isascii() and word.isalpha() and len(word) > 2]
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))

    def _prompt(self) -> str:
        drawn = self._random.choices(self._words, cum_weights=self._weights, k=self._random.randint(4, 22))
        return ", ".join((" ".join(drawn), *self._random.sample(STYLES, self._random.randint(0, 3))))

    def job(self, number: int) -> dict[str, Any]:
        choice, place = self._random.choice, (number - 1) % BATCH
        failed = number % 50 == 0
        ended = NOW - (self._jobs - number) * PACE
        model = MODELS[(number - 1) // BATCH % len(MODELS)]
        return {
            "id": number, "chunk": place // 16, "line": place + 2, "image_index": 0,
            "priority": 5, "prompt": self._prompt(), "negative_prompt": "blurry, low quality, watermark",
            "model": model, "sampler": choice(SAMPLERS), "steps": choice((20, 25, 25, 30, 50)),
            "scale": choice((5.0, 7.0, 7.5, 7.5, 9.0)), "width": 512, "height": choice((512, 512, 768)),
            "seed": 4242 if number == self._jobs // 3 else self._random.randrange(2**32), "strength": 0.75,
            "eta": 0.0, "tags": {"category": choice(("Animals", "Places", "People", "Food"))},
            "state": "failed" if failed else "succeeded", "attempts": 1, "fence": 1, "worker": f"host/{number % 4}",
            "started_at": ended - 4, "finished_at": ended, "cause": choice(("memory", "nan")) if failed else None,
        }  # fmt: skip

    def image(self, number: int) -> dict[str, Any]:
        return {
            "job_id": number, "path": f"{number // BATCH:04d}-bench/{number:08d}.png", "width": 512, "height": 512,
            "sha256": f"{self._random.getrandbits(256):064x}", "bytes": 400_000 + number % 9999,
            "seconds": abs(self._random.gauss(4, 1)), "worker": f"host/{number % 4}", "device": "NVIDIA H100",
            "dtype": "float16", "batch_rows": 16, "checkpoint_hash": "0" * 64, "versions": {"torch": "2.13.0"},
            "created_at": NOW - (self._jobs - number) * PACE, "flagged": "flat" if number % 10_000 == 1 else None,
        }  # fmt: skip


LATER = ("id", "state", "attempts", "fence", "worker", "started_at", "finished_at", "cause")


def facts(job: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """The peer's row."""
    known = {name: value for name, value in {**image, **job}.items() if value is not None}
    known = {**known, "finished": job["finished_at"], "tags": job["tags"]}
    return {"id": job["id"], "created_at": job["finished_at"], "facts": known}


def load(ledger: Ledger, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write many rows in the shortest way that the database has."""
    names = ", ".join(rows[0])
    values = [tuple(json.encode(v).decode() if isinstance(v, dict) else v for v in row.values()) for row in rows]
    with ledger.engine.begin() as connection:
        if ledger.engine.dialect.name == "sqlite":
            places = ", ".join("?" * len(rows[0]))
            connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608 - names of ours
            return
        driver: Any = connection.connection.driver_connection
        with driver.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in values:
                copy.write_row(row)


def fill(ledger: Ledger, draw: Drawn, first: int, last: int, *, peer: bool) -> None:
    """Jobs that have ended, with their images; for a peer too."""
    for start in range(first, last + 1, SLICE):
        batch_id = create_batch(ledger)
        ledger.open_batch(batch_id)
        numbers = range(start, min(start + SLICE, last + 1))
        jobs = [{**draw.job(number), "batch_id": batch_id} for number in numbers]
        images = {job["id"]: draw.image(job["id"]) for job in jobs if job["state"] == "succeeded"}
        load(ledger, "job", jobs)
        load(ledger, "image", list(images.values()))
        if peer:
            load(ledger, "peer", [facts(job, images.get(job["id"], {})) for job in jobs])
    if ledger.engine.dialect.name == "postgresql":
        execute(ledger, f"SELECT setval('job_id_seq', {last})")


def create_batch(ledger: Ledger) -> int:
    new = NewBatch(name="bench.csv", slug="bench", source_sha256="0" * 64, image_format="png", total=BATCH)
    return ledger.create_batch(new)


def execute(ledger: Ledger, statement: str) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(text(statement))


def record(ledger: Ledger, draw: Drawn) -> float:
    """Microseconds that recording a job takes, as `promptmill submit` does; the jobs are removed again."""
    batch_id = create_batch(ledger)
    jobs = [{**draw.job(number), "batch_id": batch_id} for number in range(1, ROUND + 1)]
    new = [{name: value for name, value in job.items() if name not in LATER} for job in jobs]
    begun = time.perf_counter()
    for start in range(0, ROUND, RECORDED):
        ledger.add_jobs(new[start : start + RECORDED])
    cost = (time.perf_counter() - begun) / ROUND * 1e6
    ledger.discard_batch(batch_id)
    return cost


def compare_inserts(small: Ledger, large: Ledger, jobs: int) -> None:
    """Both in turn, so that what else the machine does falls on both; the best round of each counts."""
    draw = Drawn(jobs)
    fill(small, draw, 1, SLICE, peer=False)
    rounds = [(record(small, draw), record(large, draw)) for _ in range(ROUNDS)]
    few, many = (min(costs) for costs in zip(*rounds, strict=True))
    click.echo(f"insert: {few:.1f} us a job at {SLICE}, {many:.1f} at {jobs}: {many / few:.2f} times (aim 1.2)")


def build(ledger: Ledger, jobs: int) -> None:
    """Fill the ledger; in SQLite the peer's table, too."""
    peer = ledger.engine.dialect.name == "sqlite"
    if peer:
        execute(ledger, "CREATE TABLE peer (id INTEGER PRIMARY KEY, created_at REAL, facts TEXT)")
        execute(ledger, "CREATE INDEX peer_created ON peer (created_at)")
    built = seconds(lambda: fill(ledger, Drawn(jobs), 1, jobs, peer=peer))
    if not peer:
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    words, tallies = (seconds(partial(catch_up, ledger.engine)) for catch_up in (job_text.catch_up, blocks.catch_up))
    click.echo(f"built in {built:.0f} s; first search: words {words:.1f} s, tallies {tallies:.1f} s")


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def timed(act: Callable[[], object], tries: int = TRIES) -> Timing:
    """Median and 95th percentile, in ms."""
    times = sorted(seconds(act) * 1e3 for _ in range(tries))
    return statistics.median(times), times[-(-95 * tries // 100) - 1]


def ask(ledger: Ledger, jobs: int) -> list[Timing]:
    """Each question for a page of fifty."""
    asked = [parse(question.ours, NOW) for question in questions(jobs)]
    return [timed(partial(find, ledger.engine, query, limit=PAGE)) for query in asked]


def ask_peer(ledger: Ledger, jobs: int) -> list[Timing]:
    newest = "SELECT * FROM peer WHERE {} ORDER BY created_at DESC LIMIT {}".format
    asked = [text(newest(question.theirs, PAGE).replace(":", "\\:")) for question in questions(jobs)]
    return [timed(partial(read, ledger.engine, statement), PEER_TRIES) for statement in asked]


def ask_stats(ledger: Ledger) -> None:
    for by in COUNTED_BY:
        middle, slow = timed(partial(tally, ledger.engine, parse("", NOW), by))
        click.echo(f"stats --by {by:<25}{middle:>9.1f}{slow:>9.1f}  (aim 300)")


def show(jobs: int, found: dict[str, list[Timing]]) -> None:
    """The table; a ratio is that of the medians in SQLite."""
    click.echo(f"\n{'median and p95 in ms':<52}" + "".join(f"{name:>20}" for name in found) + f"{'ratio':>8}")
    for at, question in enumerate(questions(jobs)):
        cells = "".join(f"{timings[at][0]:>11.1f}{timings[at][1]:>9.1f}" for timings in found.values())
        click.echo(f"{question.ours:<52}{cells}{found['LIKE'][at][0] / found['sqlite'][at][0]:>8.1f}")


def summary(found: dict[str, list[Timing]]) -> None:
    for name, timings in found.items():
        if name != "LIKE":
            click.echo(f"{name}: slowest p95 {max(slow for _, slow in timings):.1f} ms (aim 50)")
    ours, theirs = ([middle for middle, _ in found[name]] for name in ("sqlite", "LIKE"))
    click.echo(f"ratio: {sum(theirs) / sum(ours):.1f}  (the time of all questions by LIKE, to ours in SQLite; aim 20)")


def databases(stack: ExitStack) -> Iterator[tuple[str, str]]:
    """URLs of two empty ledgers, in each database there is."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="promptmill-bench-"))
    yield f"sqlite:///{folder}/large.sqlite3", f"sqlite:///{folder}/small.sqlite3"
    if at := programs():
        server = stack.enter_context(Server(at, SERVER))
        yield server.empty(), server.empty()
    else:
        click.echo("PostgreSQL is not installed here, and left out.")


@click.command(help=__doc__)
@click.option("--jobs", default=1_000_000, show_default=True, type=click.IntRange(1000), help="In the ledger.")
def main(jobs: int) -> None:
    found: dict[str, list[Timing]] = {}
    with ExitStack() as stack:
        for urls in databases(stack):
            large, small = map(open_ledger, urls)
            name = large.engine.dialect.name
            click.echo(f"--- {name}, {jobs} jobs; load {os.getloadavg()[0]:.1f}")
            build(large, jobs)
            found[name] = ask(large, jobs)
            if name == "sqlite":
                found["LIKE"] = ask_peer(large, jobs)
            ask_stats(large)
            compare_inserts(small, large, jobs)
            large.engine.dispose()
            small.engine.dispose()
    show(jobs, found)
    summary(found)


if __name__ == "__main__":
    main()
