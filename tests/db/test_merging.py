"""Two ledgers become one: nothing is lost, nothing is there twice, and counts and searches stay true."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import Table, func, insert, select, text, update

from db import blocks, merging, notices, queries
from db.copying import copy_ledger
from db.errors import LedgerInUse, LedgerTooNew, LedgerTooOld, LedgerUnreachable
from db.ledger import Ledger
from db.migrate import open_ledger
from db.models import BATCHES, HOLDS, IMAGES, JOBS, Batch, Image, Job
from db.reading import read
from db.search import count
from db.session import open_for_reading
from db.tally import COUNTED_BY, tally
from producer.errors import NoOtherLedger
from producer.merging import Arrival, Merge
from producer.query import parse
from tests.db.conftest import IMAGE, batch, job
from tests.db.test_copying import JOB
from tests.db.test_ledger_machine import dying
from tests.postgres import Server

ENDS = strategies.sampled_from(["succeeded", "failed", "queued"])
STANDINGS = strategies.sampled_from(["open", "paused", "cancelled", "held", "nameless"])
#: Batches, each with how it stands, its jobs, and how they ended.
CONTENT = strategies.lists(
    strategies.tuples(STANDINGS, strategies.lists(strategies.tuples(JOB, ENDS), min_size=1, max_size=5)), max_size=3
)
record = batch.__wrapped__  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four jobs, and pages of two."""
    monkeypatch.setattr("db.blocks.BLOCK", 4)
    monkeypatch.setattr("db.merging.PAGE", 2)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger to copy: migrations take longer than a copy."""
    file = tmp_path_factory.mktemp("empty") / "ledger.sqlite3"
    open_ledger(f"sqlite:///{file}").engine.dispose()
    return file


Make = Callable[[str], Ledger]


@pytest.fixture
def make(empty: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes empty ledgers in SQLite or PostgreSQL."""
    made: list[Ledger] = []

    def empty_ledger(kind: str) -> Ledger:
        if kind == "postgresql":
            server: Server = request.getfixturevalue("postgresql")
            made.append(open_ledger(server.ledger()))
        else:
            file = shutil.copy(empty, tmp_path_factory.mktemp("ledger"))
            made.append(open_ledger(f"sqlite:///{file}"))
        return made[-1]

    yield empty_ledger
    for ledger in made:
        ledger.engine.dispose()


def fill(ledger: Ledger, content: list[Any]) -> None:
    for standing, jobs in content:
        ids = record(ledger)(*(values for values, _ in jobs))
        batch_id = read(ledger.engine, select(func.max(Batch.id)))[0][0]
        ends = dict(zip(ids, (end for _, end in jobs), strict=True))
        for claim in ledger.start_jobs([job_id for job_id in ids if ends[job_id] != "queued"], "w", 60):
            if ends[claim.job_id] == "succeeded":
                ledger.finish_job(claim, {**IMAGE, "path": f"{batch_id:04d}-cats/{claim.job_id:08d}-1.png"})
            else:
                ledger.fail_job(claim, "invalid", "Es geht nicht.")
        stand(ledger, batch_id, standing)


def stand(ledger: Ledger, batch_id: int, standing: str) -> None:
    if standing == "nameless":
        with ledger.engine.begin() as connection:
            connection.execute(update(BATCHES).where(Batch.id == batch_id).values(uid=None))
    elif standing == "held":
        ledger.hold_jobs(batch_id, "demo", "checkpoint", "It is gone.")
    elif standing != "open":
        {"paused": ledger.pause_batch, "cancelled": ledger.cancel_batch}[standing](batch_id)


def content_of(ledger: Ledger) -> dict[str, Any]:
    """All that is asked of a ledger, but for ids and paths, by what names a batch."""
    found = {}
    for row in read(ledger.engine, select(BATCHES).where(Batch.submitted_at.is_not(None))):
        ids = select(Job.id).where(Job.batch_id == row.id)
        jobs = rows(ledger, JOBS, Job.batch_id == row.id, Job.id)
        images = rows(ledger, IMAGES, Image.job_id.in_(ids), Image.job_id)
        holds = rows(ledger, HOLDS, HOLDS.c.batch_id == row.id, HOLDS.c.model)
        found[merging.uid_of(row)] = (stripped(row, "uid"), jobs, images, holds)
    return found


def rows(ledger: Ledger, table: Table, condition: Any, order: Any) -> list[dict[str, Any]]:
    return [stripped(row) for row in read(ledger.engine, select(table).where(condition).order_by(order))]


def stripped(row: Any, *names: str) -> dict[str, Any]:
    gone = {"id", "batch_id", "job_id", "folder", "path", *names}
    return {name: value for name, value in row._asdict().items() if name not in gone}


def merge(here: Ledger, other: Ledger, folder: Path) -> list[Arrival]:
    """Bring the other's batches here; their images are lost."""
    (folder / "there").mkdir(exist_ok=True)
    url = other.engine.url.render_as_string(hide_password=False)
    engine = open_for_reading(url)
    merging.check_other(engine)
    told: list[str] = []
    course = Merge(ledger=here, other=engine, root=folder / "here", origin=folder / "there", tell=told.append)
    arrivals = list(course.arrivals())
    engine.dispose()
    assert len(told) == sum(arrival.flawed for arrival in arrivals) == sum(arrival.images for arrival in arrivals)
    return arrivals


def stats(*ledgers: Ledger) -> dict[Any, tuple[float, ...]]:
    """What the ledgers count, added up."""
    sums: dict[Any, tuple[float, ...]] = defaultdict(lambda: (0, 0, 0))
    for ledger in ledgers:
        for by in COUNTED_BY:
            for key, *counts in tally(ledger.engine, parse("", 0), by):
                sums[by, key] = tuple(round(a + b, 6) for a, b in zip(sums[by, key], counts, strict=True))
    return dict(sums)


def found(*ledgers: Ledger) -> list[int]:
    """How many jobs each query finds in the ledgers."""
    asked = ("red", "-red", "state:failed", "failed:invalid", "steps:20")
    return [sum(count(ledger.engine, parse(query, 0)) for ledger in ledgers) for query in asked]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
@given(mine=CONTENT, others=CONTENT)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_merged_ledgers_hold_the_same(
    make: Make, tmp_path_factory: pytest.TempPathFactory, kind: str, mine: list[Any], others: list[Any]
) -> None:
    here, there, folder = make("sqlite"), make(kind), tmp_path_factory.mktemp("images")
    fill(here, mine)
    fill(there, others)
    both = content_of(here) | content_of(there)
    before = stats(here, there), found(here, there)
    merge(there, here, folder)
    assert (content_of(there), (stats(there), found(there))) == (both, before)
    arrivals = merge(here, there, folder)
    assert (content_of(here), (stats(here), found(here))) == (both, before)
    assert [arrival.known for arrival in arrivals].count(False) == len(others)
    assert all(arrival.known for arrival in (*merge(here, there, folder), *merge(there, here, folder)))
    assert (content_of(here), content_of(there)) == (both, both)


@given(content=CONTENT)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.postgresql
def test_a_copied_ledger_answers_as_the_first_one(make: Make, content: list[Any]) -> None:
    here, there = make("sqlite"), make("postgresql")
    fill(here, content)
    copy_ledger(here.engine, there.engine)
    assert (content_of(there), stats(there), found(there)) == (content_of(here), stats(here), found(here))


@given(life=strategies.integers(0, 40))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_merge_that_dies_leaves_whole_batches_and_goes_on(
    make: Make, tmp_path_factory: pytest.TempPathFactory, life: int
) -> None:
    here, there, folder = make("sqlite"), make("sqlite"), tmp_path_factory.mktemp("images")
    jobs: list[Any] = [({"seed": n}, ("succeeded", "queued", "failed")[n % 3]) for n in range(5)]
    fill(here, [("open", jobs)])
    fill(there, [("held", jobs), ("open", jobs)])
    mine, both = content_of(here), content_of(here) | content_of(there)
    with dying(here.engine, life):
        merge(here, there, folder)
    assert mine.items() <= content_of(here).items() <= both.items()
    assert not set(started(here)) - {job_id for job_id, *_ in read(here.engine, opened_jobs())}
    merge(here, there, folder)
    assert content_of(here) == both
    assert found(here) == [15, 0, 3, 3, 15]
    assert read(here.engine, select(func.count()).select_from(JOBS))[0][0] == 15


def started(ledger: Ledger) -> list[int]:
    """Jobs that a worker could start now; they are put back."""
    ids = [row[0] for row in read(ledger.engine, select(Job.id))]
    claims = ledger.start_jobs(ids, "w", 60)
    before = [claim.job_id for claim in claims]
    with ledger.engine.begin() as connection:
        back = {"state": "queued", "worker": None, "lease_until": None, "started_at": None}
        changed = {"attempts": Job.attempts - 1, "fence": Job.fence - 1}
        connection.execute(update(JOBS).where(Job.id.in_(before)).values(**back, **changed))
    return before


def opened_jobs() -> Any:
    return select(Job.id).join(BATCHES, Batch.id == Job.batch_id).where(Batch.submitted_at.is_not(None))


def test_what_waits_is_queued_and_what_has_been_is_not_told(make: Make, tmp_path: Path) -> None:
    here, there = make("sqlite"), make("sqlite")
    fill(there, [("open", [({}, "succeeded")]), ("held", [({}, "queued")]), ("open", [({}, "queued")])])
    merge(here, there, tmp_path)
    assert list(queries.waiting_ids(here.engine, 1e12)) == [[3]]
    assert not notices.ended(here.engine)
    assert not notices.held(here.engine)
    assert notices.is_untold(here.engine, 3, notices.Event.ENDED)


def test_a_ledger_that_is_worked_on_is_refused(make: Make, tmp_path: Path) -> None:
    here, there = make("sqlite"), make("sqlite")
    (job_id,) = record(there)({})
    there.start_jobs([job_id], "w", 60)
    with pytest.raises(LedgerInUse, match="stop its workers"):
        merge(here, there, tmp_path)
    there.rescue_jobs(3, worker="w")
    there.report_worker("w", host="h", pid=1)
    with pytest.raises(LedgerInUse, match="alive"):
        merge(here, there, tmp_path)


@pytest.mark.parametrize(("revision", "error"), [("0001", LedgerTooOld), ("9999", LedgerTooNew)])
def test_a_ledger_of_another_version_is_refused(
    make: Make, tmp_path: Path, revision: str, error: type[Exception]
) -> None:
    here, there = make("sqlite"), make("sqlite")
    with there.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    with pytest.raises(error, match=revision):
        merge(here, there, tmp_path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    with pytest.raises(LedgerUnreachable, match="no ledger at"):
        open_for_reading(f"sqlite:///{file}")
    file.write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(LedgerUnreachable, match="cannot be read"):
        open_for_reading(f"sqlite:///{file}")
    file.write_bytes(b"")
    with pytest.raises(LedgerTooOld, match="db upgrade"):
        merging.check_other(open_for_reading(f"sqlite:///{file}"))


def test_images_whose_folder_is_not_there_are_asked_for(make: Make, tmp_path: Path) -> None:
    here, there = make("sqlite"), make("sqlite")
    fill(there, [("open", [({}, "succeeded")])])
    course = Merge(ledger=here, other=there.engine, root=tmp_path / "here", origin=tmp_path / "nowhere", tell=print)
    with pytest.raises(NoOtherLedger, match="--images"):
        list(course.arrivals())
    assert not read(here.engine, select(BATCHES))


@pytest.mark.postgresql
def test_a_block_is_not_counted_while_its_jobs_are_recorded(make: Make) -> None:
    ledger = make("postgresql")
    fill(ledger, [("open", [({}, "failed")] * 2)])
    with ledger.engine.begin() as connection:
        connection.execute(update(JOBS).values(finished_at=1.0))
    with ledger.engine.begin() as late:
        late.execute(insert(JOBS), [job(1, state="queued")])
        fill(ledger, [("open", [({}, "queued")] * 6)])
        blocks.catch_up(ledger.engine)
        assert not read(ledger.engine, text("SELECT * FROM tally"))
        late.execute(update(JOBS).where(Job.id == 3).values(state="failed", finished_at=1.0))
    assert sum(row.failures for row in tally(ledger.engine, parse("", 0), "model")) == 3
