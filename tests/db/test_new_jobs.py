"""Jobs inserted past SQLAlchemy are what SQLAlchemy reads."""

from sqlalchemy import select

from db.ledger import Ledger, NewBatch
from db.models import Job, JobState
from db.new_jobs import VARIABLES
from tests.db.conftest import job


def test_more_jobs_than_fit_one_statement_are_recorded_as_they_are(ledger: Ledger) -> None:
    total = 2 * VARIABLES // len(job(0)) + 1
    new = NewBatch(name="cats.csv", slug="cats", source_sha256="0" * 64, image_format="png", total=total)
    batch_id = ledger.create_batch(new)
    jobs = [
        job(
            batch_id, line=line, prompt=f"cat 'number' {line}; %s {{}} ?", scale=line / 7,
            content_key=bytes([line % 256]),
            tags={"größe": str(line)} if line % 3 else {}, noise={"mode": "x", "at": [line]} if line % 2 else None,
        )
        for line in range(total)
    ]  # fmt: skip
    ledger.add_jobs(jobs)
    columns = [getattr(Job, name) for name in jobs[0]]
    with ledger.engine.connect() as connection:
        rows = connection.execute(select(*columns).where(Job.batch_id == batch_id).order_by(Job.id)).mappings().all()
        states = {tuple(row) for row in connection.execute(select(Job.state, Job.attempts, Job.fence))}
    assert [dict(row) for row in rows] == jobs
    assert states == {(JobState.QUEUED, 0, 0)}
