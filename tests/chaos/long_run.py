"""``python -m tests.chaos.long_run``: 100,000 jobs through null workers, and what each tenth of them cost.

Queue, ledger and files are real; only the device is not there, so what is measured is all that surrounds it.
"""

import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import click
import psutil

from configs.settings import Settings
from producer.embedded import server_binary
from tests.chaos.site import Site

#: Seconds the null engine takes for four images.
SECONDS = 0.02
MEGABYTE = 2**20
#: Part of the queued jobs that messages speak of when a queue is whole; the tail is in smaller ones.
SURELY = 0.98
#: What counts as flat: the last tenth against the second, since the first has the start in it.
SLOWER, LARGER = 0.9, 1.05


class Tenth(NamedTuple):
    """What was seen at the end of a tenth. Memory in bytes: the largest worker's, and that of the parent of all."""

    rate: float
    worker: int
    parent: int
    queue: int


@click.command()
@click.option("--jobs", default=100_000, show_default=True, type=click.IntRange(1000))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1))
@click.option("--server", help="The queue's server.  [default: the one Promptmill brings]")
@click.option("--submit-only", is_flag=True, help="Make nothing of them.")
def main(jobs: int, workers: int, server: str | None, submit_only: bool) -> None:
    """Make many jobs; exits with 1 when speed or memory was not flat, or fsck finds something."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="long-run-"))
        site = stack.enter_context(Site(Path(folder, "site"), server or server_binary(), seconds=SECONDS))
        began = time.monotonic()
        batch_id = site.submit(jobs)
        print(f"{jobs:,} rows submitted in {time.monotonic() - began:.1f} s", flush=True)
        print(f"queue: {used_memory(site) / MEGABYTE:.1f} MB", flush=True)
        if submit_only:
            return
        print("tenth  jobs/s  worker MB  parent MB  queue MB", flush=True)
        site.open_host(workers)
        print(f"FLUSHALL healed after {heal(site, batch_id):.1f} s", flush=True)
        tenths = watch(site, batch_id, jobs)
        clean = site.call("fsck") == 0
    flat = is_flat(tenths)
    print(f"fsck {'is clean' if clean else 'found something'}; {'flat' if flat else 'not flat'}")
    sys.exit(0 if clean and flat else 1)


def heal(site: Site, batch_id: int) -> float:
    """Empty the queue once the workers are at work; seconds until it speaks of all queued jobs again."""
    site.until_next(batch_id)
    site.server.flush()
    began, size = time.monotonic(), Settings().chunk_size
    # What is taken meanwhile is no longer in a list, and what was taken is not lost.
    site.wait(lambda: site.server.waiting() >= SURELY * site.open_jobs(batch_id) / size, pause=0.2)
    return time.monotonic() - began


def watch(site: Site, batch_id: int, jobs: int) -> "list[Tenth]":
    tenths: list[Tenth] = []
    last, done = time.monotonic(), 0
    for number in range(1, 11):
        site.wait(lambda: site.done(batch_id) >= jobs * number // 10, seconds=3600, pause=0.5)  # noqa: B023
        now, made = time.monotonic(), site.done(batch_id)
        tenths.append(Tenth((made - done) / (now - last), *sizes(site), used_memory(site)))
        last, done = now, made
        rate, *memory = tenths[-1]
        print(f"{number:5}  {rate:6.1f}  " + "  ".join(f"{size / MEGABYTE:9.1f}" for size in memory), flush=True)
    return tenths


def sizes(site: Site) -> tuple[int, int]:
    """Memory of the largest worker, and of the fleet's parent."""
    (host,) = site.hosts
    assert host.process
    parent = psutil.Process(host.process.pid)
    return max(own_memory(worker) for worker in host.workers().values()), own_memory(parent)


def own_memory(process: psutil.Process) -> int:
    """Without what is only mapped, as the ledger's pages are."""
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


def used_memory(site: Site) -> int:
    return int(site.server.client.info("memory")["used_memory"])


def is_flat(tenths: list[Tenth]) -> bool:
    first, last = tenths[1], tenths[-1]
    grown = max(last.worker / first.worker, last.parent / first.parent)
    return last.rate >= SLOWER * first.rate and grown <= LARGER


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
