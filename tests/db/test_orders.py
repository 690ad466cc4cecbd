"""Pages in any order: along its index or of all that is found, the same jobs come, and none is left out or twice."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select, update

from db.ledger import Ledger
from db.models import IMAGES, JOBS, Job
from db.search import ORDERS, Place, find
from producer.query import parse
from tests.db.conftest import IMAGE

SORTS = [name for name in ORDERS if name != "id"]
QUERIES = [
    "",
    "circle",
    "-circle",
    "steps:2..3",
    "sampler:ddim took>0.2",
    "state:failed",
    "batch:cats.csv red",
    "model:none",
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four jobs, of which more than three are many, and an index that is not followed to its end."""
    monkeypatch.setattr("db.blocks.BLOCK", 4)
    monkeypatch.setattr("db.orders.FEW", 3)
    monkeypatch.setattr("db.orders.FOLLOWED", (3, 5))


@pytest.fixture(autouse=True)
def jobs(ledger: Ledger, batch: Callable[..., list[int]]) -> None:
    """Twenty of few different values; some have failed, one has no end."""
    prompts = ("a red circle", "a red square")
    values = [{"steps": 1 + n % 4, "scale": n % 3 / 2, "seed": n * 7 % 11, "prompt": prompts[n % 2]} for n in range(20)]
    ids = batch(*values)
    for n, claim in enumerate(ledger.start_jobs(ids[:-1], "w", 15)):
        if n % 5:
            ledger.finish_job(claim, {**IMAGE, "path": f"{n}.png", "seconds": n % 4 / 8, "bytes": n % 6})
        else:
            ledger.fail_job(claim, "memory", "none left")
    with ledger.engine.begin() as connection:
        connection.execute(update(JOBS).where(Job.finished_at.is_not(None)).values(finished_at=Job.id % 7 + 1.0))


def paged(ledger: Ledger, query: str, sort: str, *, ascending: bool) -> Iterator[tuple[float, int]]:
    """The values and ids, four a page."""
    after: Place | None = None
    while page := find(ledger.engine, parse(query, 0), limit=4, sort=sort, after=after, ascending=ascending):
        yield from ((row.place, row.id) for row in page)
        after = Place(page[-1].place, page[-1].id)


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_all_that_is_found_comes_once_and_in_order(ledger: Ledger, sort: str, ascending: bool) -> None:
    values = select(Job.id, ORDERS[sort].value).outerjoin(IMAGES, IMAGES.c.job_id == Job.id)
    with ledger.engine.connect() as connection:
        of = {row[0]: row[1] for row in connection.execute(values)}
    for query in QUERIES:
        every = find(ledger.engine, parse(query, 0), limit=99)
        expected = sorted(((of[row.id], row.id) for row in every), reverse=not ascending)
        assert list(paged(ledger, query, sort, ascending=ascending)) == expected
