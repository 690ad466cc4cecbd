"""Blocks are counted once they lie behind us; counts stay true, and what a search passes over is not missed."""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import blocks
from db.claim import Claim
from db.ledger import Ledger
from db.models import JOBS, TALLIES, Job, JobState
from db.pruning import remove_jobs
from db.reading import read
from db.search import Place, count, find
from db.tally import COUNTED_BY, Count, tally
from producer.query import parse
from tests.db.conftest import IMAGE

Batch = Callable[..., list[int]]
#: Finds everything, and cannot be answered by tallies.
ALL = "steps:1.."


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four jobs, and searches that are soon at their wits' end."""
    monkeypatch.setattr("db.blocks.BLOCK", 4)
    monkeypatch.setattr("db.passage.NEXT", 3)
    monkeypatch.setattr("db.passage.RARE", 2)
    monkeypatch.setattr("db.passage.WORDS_NEXT", (2, 3, 4))
    monkeypatch.setattr("db.passage.WORDS_RARE", 5)


@pytest.fixture
def ended(ledger: Ledger, batch: Batch) -> list[int]:
    """Thirty jobs that ended over days, unlike each other; of two batches, with a queued one between."""
    samplers, scales = cycle(("DDIM", "Euler a", "PLMS", "DDIM", "DDIM")), cycle((5.0, 7.5, 9.0))
    values = [{"sampler": next(samplers), "scale": next(scales), "seed": n, "steps": n // 2 + 1} for n in range(30)]
    ids = [*batch(*values[:14]), *batch(*({**some, "model": "other", "width": 256} for some in values[14:]))]
    for number, claim in enumerate(ledger.start_jobs([i for i in ids if i != 9], "w", 15)):
        if number % 5:
            ledger.finish_job(claim, {**IMAGE, "path": f"{number}.png", "seconds": number / 8})
        else:
            ledger.fail_job(claim, "memory", "none left")
    with ledger.engine.begin() as connection:
        done = update(JOBS).where(Job.finished_at.is_not(None))
        connection.execute(done.values(finished_at=Job.id * 30_000.0))
    return ids


def counted(ledger: Ledger) -> int:
    """How many blocks have a tally."""
    return int(read(ledger.engine, select(func.count(TALLIES.c.block.distinct())))[0][0])


def counts(ledger: Ledger, query: str = "") -> dict[str, list[Count]]:
    return {by: tally(ledger.engine, parse(query, 0), by) for by in COUNTED_BY}


@pytest.mark.usefixtures("ended")
def test_blocks_behind_us_are_counted_where_all_jobs_have_ended(ledger: Ledger) -> None:
    blocks.catch_up(ledger.engine)
    # The ids from 0 to 27, without the block of the queued job 9.
    assert counted(ledger) == 6


@pytest.mark.usefixtures("ended")
def test_tallies_and_jobs_give_the_same_counts(ledger: Ledger) -> None:
    assert counts(ledger) == counts(ledger, ALL)
    assert counts(ledger, "batch:2 -sampler:ddim") == counts(ledger, f"batch:2 -sampler:ddim {ALL}")


def retry(ledger: Ledger) -> None:
    assert ledger.retry_batch(1)


def remake(ledger: Ledger) -> None:
    assert ledger.remake_jobs([Claim(3, 1)]) == [3]


def prune(ledger: Ledger) -> None:
    assert len(remove_jobs(ledger.engine, [2, 3, 28, 29, 30])) == 5


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("take_back", [retry, remake, prune])
def test_what_is_taken_back_is_counted_no_more(ledger: Ledger, take_back: Callable[[Ledger], None]) -> None:
    before = counts(ledger)
    take_back(ledger)
    after = counts(ledger)
    assert after == counts(ledger, ALL) != before


def test_ids_that_are_given_again_are_counted(ledger: Ledger, ended: list[int], batch: Batch) -> None:
    remove_jobs(ledger.engine, ended[13:])
    assert counts(ledger) == counts(ledger, ALL)
    ids = batch(*[{}] * 9)
    for claim in ledger.start_jobs(ids, "w", 15):
        ledger.fail_job(claim, "memory", "none left")
    assert counts(ledger) == counts(ledger, ALL)


@pytest.mark.usefixtures("ended")
def test_a_block_that_may_get_more_jobs_is_not_counted(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM image WHERE job_id = 6")
        connection.exec_driver_sql("DELETE FROM job WHERE id = 6")
        connection.execute(update(JOBS).where(Job.id == 7).values(finished_at=9e9))
    blocks.catch_up(ledger.engine)
    assert not read(ledger.engine, select(TALLIES.c.block).where(TALLIES.c.block == 1))


def pages(ledger: Ledger, query: str, *, ascending: bool) -> Iterator[int]:
    """The ids that are found, three a page."""
    after: Place | None = None
    while page := find(ledger.engine, parse(query, 0), limit=3, after=after, ascending=ascending):
        yield from (row.id for row in page)
        after = Place(page[-1].place, page[-1].id)


QUERIES: dict[str, Callable[[Any], bool]] = {
    "": lambda _: True,
    "sampler:ddim": lambda job: job.sampler == "DDIM",
    "-sampler:ddim model:other": lambda job: job.sampler != "DDIM" and job.model == "other",
    "model:demo,other scale>7": lambda job: job.scale > 7,
    "model:none": lambda _: False,
    "state:failed": lambda job: job.state == JobState.FAILED,
    "state:queued": lambda job: job.id == 9,
    "failed:memory batch:2": lambda job: job.cause == "memory" and job.batch_id == 2,
    "before:300000": lambda job: job.id < 10 and job.id != 9,
    "finished:450000..700000": lambda job: 15 <= job.id <= 23,
    "-finished:450000..700000": lambda job: not 15 <= job.id <= 23,
    "steps:7": lambda job: job.steps == 7,
    "steps:3..12 size:256x128": lambda job: 3 <= job.steps <= 12 and job.width == 256,
    "id:5..20 worker:w": lambda job: 5 <= job.id <= 20 and job.worker == "w",
    "seed:3,4,5..9": lambda job: 3 <= job.seed <= 9,
    "circle sampler:ddim": lambda job: job.sampler == "DDIM",
    "circle state:failed": lambda job: job.state == JobState.FAILED,
    "circle seed:9": lambda job: job.seed == 9,
    "circle -red": lambda _: False,
}


@pytest.mark.usefixtures("ended")
def test_a_search_finds_what_there_is_in_pages_either_way(ledger: Ledger) -> None:
    jobs = read(ledger.engine, select(JOBS).order_by(Job.id))
    for query, holds in QUERIES.items():
        wanted = [job.id for job in jobs if holds(job)]
        found = [list(pages(ledger, query, ascending=ascending)) for ascending in (True, False)]
        assert (query, *found) == (query, wanted, wanted[::-1])
        assert count(ledger.engine, parse(query, 0)) == len(wanted)
        assert count(ledger.engine, parse(query, 0), at_most=2) == min(2, len(wanted))
