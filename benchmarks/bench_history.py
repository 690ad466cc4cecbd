"""Times of typical questions to a large ledger, against the same words asked with LIKE.

python benchmarks/bench_history.py --jobs 1000000 [--postgres URL] [--prompts FILE]
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from db.job_text import catch_up
from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from db.models import IMAGES, JOBS
from db.reading import read
from db.search import find
from db.tally import tally
from producer.query import parse

NOW, SLICE, TRIES = 1.8e9, 10_000, 15
FIRST = ["portrait", "photo", "sketch", "painting", "render", "watercolor", "poster", "diagram", "mosaic"]
WORDS = [
    "castle",
    "fox",
    "river",
    "forest",
    "robot",
    "cat",
    "dog",
    "harbour",
    "mountain",
    "lantern",
    "queen",
    "ship",
    "tower",
    "garden",
    "moth",
    "violin",
]
STYLE = [
    "cinematic",
    "oil on canvas",
    "4k",
    "sharp focus",
    "soft light",
    "trending",
    "baroque",
    "neon",
    "misty",
    "golden hour",
]
QUERIES = (
    "castle", '"red fox"', "castle -dog", "zeppelin", "negative:blurry", "cast*", "castle steps:20..30", "seed:4242",
    "steps:20..30 scale>7", "sampler:ddim since:2d", "batch:1 state:failed", "tag.category:Animals", "flagged:yes",
    "size:512x768 took>5s", "model:demo before:2026-11-01",
)  # fmt: skip


def prompt(draw: random.Random) -> str:
    """Recombined words; one of ten thousand has a rare one."""
    rare = "zeppelin " if draw.random() < 1e-4 else ""
    colour = draw.choice(("red", "blue", "old", "tiny"))
    scene = f"{draw.choice(FIRST)} of a {rare}{colour} {draw.choice(WORDS)} and a {draw.choice(WORDS)}"
    return f"{scene}, {', '.join(draw.sample(STYLE, 4))}, no. {draw.randrange(10**6)}"


def job(draw: random.Random, number: int, prompts: list[str]) -> dict[str, Any]:
    state = "failed" if number % 50 == 0 else "succeeded"
    return {
        "batch_id": 1, "chunk": number // 16, "line": number, "image_index": 0, "priority": 5,
        "prompt": draw.choice(prompts) if prompts else prompt(draw), "negative_prompt": "blurry, low quality",
        "model": "demo", "sampler": draw.choice(("DDIM", "Euler a", "DPM++ 2M Karras")), "state": state,
        "steps": draw.choice((20, 25, 30, 50)), "scale": draw.choice((5.0, 7.0, 7.5, 9.0)), "width": 512,
        "height": draw.choice((512, 768)), "seed": draw.randrange(2**32), "strength": 0.75, "eta": 0.0,
        "tags": {"category": draw.choice(("Animals", "Places"))}, "finished_at": NOW - 2e6 + number,
        "attempts": 1, "fence": 1, "worker": f"w{number % 4}", "cause": "memory" if state == "failed" else None,
    }  # fmt: skip


def image(job_id: int) -> dict[str, Any]:
    return {
        "job_id": job_id, "path": f"0001/{job_id}.png", "sha256": "0" * 64, "width": 512, "height": 512,
        "bytes": 400_000, "seconds": job_id % 80 / 10, "worker": f"w{job_id % 4}", "device": "gpu", "dtype": "float16",
        "batch_rows": 16, "checkpoint_hash": "0" * 64, "versions": {}, "created_at": NOW,
        "flagged": "flat" if job_id % 10_000 == 1 else None,
    }  # fmt: skip


def build(ledger: Ledger, jobs: int, prompts: list[str]) -> None:
    """Fill the ledger; prints what a row costs at its beginning and at its end."""
    draw = random.Random(7)
    new = NewBatch(name="bench.csv", slug="bench", source_sha256="0" * 64, image_format="png", total=jobs)
    ledger.create_batch(new)
    costs = []
    for start in range(1, jobs + 1, SLICE):
        rows = [job(draw, number, prompts) for number in range(start, start + SLICE)]
        begun = time.perf_counter()
        with ledger.engine.begin() as connection:
            connection.execute(insert(JOBS), rows)
        costs.append((time.perf_counter() - begun) / SLICE * 1e6)
        with ledger.engine.begin() as connection:
            connection.execute(insert(IMAGES), [image(n) for n in range(start, start + SLICE) if n % 50])
    ledger.open_batch(1)
    first, last = statistics.median(costs[1:4]), statistics.median(costs[-3:])
    print(f"insert: {first:.1f} us a row at first, {last:.1f} us at {jobs}: {last / first:.2f} times")
    begun = time.perf_counter()
    catch_up(ledger.engine)
    if ledger.engine.dialect.name == "postgresql":
        with ledger.engine.begin() as connection:
            connection.execute(text("ANALYZE"))
    print(f"indexing the words: {(time.perf_counter() - begun) / jobs * 1e6:.1f} us a row")


def timed(ask: Callable[[], object], tries: int = TRIES) -> tuple[float, float]:
    """Median and 95th percentile in ms."""
    times = []
    for _ in range(tries):
        begun = time.perf_counter()
        ask()
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times), sorted(times)[int(0.95 * (tries - 1) + 0.5)]


def measure(ledger: Ledger) -> None:
    for query in QUERIES:
        asked = parse(query, NOW)
        middle, slow = timed(lambda asked=asked: find(ledger.engine, asked, limit=50))
        print(f"{query:32} median {middle:8.2f} ms  p95 {slow:8.2f} ms")
    for word in ("castle", "zeppelin"):
        like = text("SELECT * FROM job WHERE lower(prompt) LIKE :w ORDER BY id DESC LIMIT 50").bindparams(w=f"%{word}%")
        print(f"{word + ' by LIKE':32} median {timed(partial(read, ledger.engine, like), 3)[0]:8.2f} ms")
    for by in ("sampler", "day"):
        count = partial(tally, ledger.engine, parse("", NOW), by)
        print(f"stats by {by:23} median {timed(count, 2)[0]:8.2f} ms")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=1_000_000)
    options.add_argument("--postgres", metavar="URL", help="of an empty database")
    options.add_argument("--prompts", type=Path, help="one prompt a line")
    given = options.parse_args()
    prompts = given.prompts.read_text("utf-8").splitlines() if given.prompts else []
    with tempfile.TemporaryDirectory() as folder:
        for url in (f"sqlite:///{folder}/ledger.sqlite3", *([given.postgres] if given.postgres else [])):
            print(f"--- {url.partition(':')[0]}")
            ledger = open_ledger(url)
            build(ledger, given.jobs, prompts)
            measure(ledger)


if __name__ == "__main__":
    main()
