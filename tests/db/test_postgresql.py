"""What is PostgreSQL's alone."""

import signal
import threading
import time

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DataError

from db import chronicle, queries
from db.errors import LedgerUnreachable
from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from db.models import BATCHES, JobState
from db.session import open_database
from tests.db.conftest import IMAGE, job
from tests.postgres import Server, programs

pytestmark = pytest.mark.postgresql
BATCH = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=2000)


def test_a_plain_url_is_taken(postgresql_url: str) -> None:
    engine = open_database(postgresql_url.replace("+psycopg", ""))
    assert engine.dialect.driver == "psycopg"
    engine.dispose()


def test_threads_that_open_a_new_ledger_at_once_all_succeed(postgresql: Server) -> None:
    url, opened = postgresql.empty(), list[Ledger]()
    threads = [threading.Thread(target=lambda: opened.append(open_ledger(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for ledger in opened:
        ledger.engine.dispose()


@pytest.mark.parametrize("database", ["nowhere", "nobody@127.0.0.1:1"])
def test_a_server_that_is_not_there_is_said_in_a_sentence(postgresql: Server, database: str) -> None:
    url = f"postgresql://{database}/x" if "@" in database else postgresql.url(database)
    with pytest.raises(LedgerUnreachable, match="cannot be opened"):
        open_database(url)


def test_jobs_are_recorded_fast(postgresql_url: str) -> None:
    ledger = open_ledger(postgresql_url)
    batch_id = ledger.create_batch(BATCH)
    began = time.perf_counter()
    ledger.add_jobs([job(batch_id, seed=seed) for seed in range(BATCH.total)])
    assert BATCH.total / (time.perf_counter() - began) > 1000
    ledger.engine.dispose()


def test_text_that_is_none_is_refused_and_not_tried_again(postgresql_url: str) -> None:
    ledger = open_ledger(postgresql_url)
    batch_id = ledger.create_batch(BATCH)
    with pytest.raises((DataError, ValueError)):
        ledger.add_jobs([job(batch_id, prompt="a\0b")])
    ledger.engine.dispose()


def test_images_are_counted_by_tag(postgresql_url: str) -> None:
    ledger = open_ledger(postgresql_url)
    batch_id = ledger.create_batch(BATCH)
    ledger.add_jobs([job(batch_id, tags={"kind": "cat"}), job(batch_id, tags={})])
    ledger.open_batch(batch_id)
    for claim in ledger.start_jobs([1, 2], "w", 60):
        ledger.finish_job(claim, {**IMAGE, "path": str(claim.job_id)})
    assert chronicle.images_by_tag(ledger.engine, batch_id, "kind") == {"cat": 1, "": 1}
    ledger.engine.dispose()


def test_a_job_put_back_while_its_batch_is_cancelled_is_cancelled(postgresql_url: str) -> None:
    ledger = open_ledger(postgresql_url)
    batch_id = ledger.create_batch(BATCH)
    ledger.add_jobs([job(batch_id)])
    ledger.open_batch(batch_id)
    claims = ledger.start_jobs([1], "w", 60)
    releasing = threading.Thread(target=ledger.release_jobs, args=(claims,))
    with ledger.engine.begin() as connection:
        connection.execute(update(BATCHES).values(cancelled_at=1.0))
        releasing.start()
        time.sleep(0.2)
    releasing.join()
    assert queries.find_job(ledger.engine, 1).state is JobState.CANCELLED
    ledger.engine.dispose()


def test_writes_wait_for_a_server_that_crashed(postgresql: Server) -> None:
    del postgresql  # Without it there is none to be had.
    found = programs()
    assert found
    with Server(found) as server:
        ledger = open_ledger(server.ledger())
        batch_id = ledger.create_batch(BATCH)
        server.stop(signal.SIGQUIT)
        writing = threading.Thread(target=ledger.add_jobs, args=([job(batch_id)],))
        writing.start()
        time.sleep(0.3)
        server.start()
        writing.join(20)
        ledger.open_batch(batch_id)
        assert len(ledger.start_jobs([1], "w", 60)) == 1
        ledger.engine.dispose()
