"""How much work waits in the ledger."""

from sqlalchemy import Engine, case, distinct, func, select

from db.models import BATCHES, Batch, Job, JobState

#: Jobs looked at. More would take longer and say no more than "a lot".
MOST = 50_000


def queued_work(engine: Engine) -> dict[tuple[str, int, int, str | None], int]:
    """Rows × steps of the queued jobs by model, width, height and precision, for each of the workers at work."""
    rows = case((Job.scale > 1, 2), else_=1)
    kind = (Job.model, Job.width, Job.height, Job.precision)
    jobs = select(*kind, (Job.steps * rows).label("work")).join(BATCHES, Batch.id == Job.batch_id)
    open_now = (Batch.submitted_at.is_not(None), Batch.paused_at.is_(None))
    queued = jobs.where(Job.state == JobState.QUEUED, *open_now).limit(MOST).subquery().c
    sums = select(queued.model, queued.width, queued.height, queued.precision, func.sum(queued.work))
    workers = select(func.count(distinct(Job.worker))).where(Job.state == JobState.RUNNING)
    with engine.connect().execution_options(readonly=True) as connection:
        share = max(1, connection.execute(workers).scalar_one())
        found = connection.execute(sums.group_by(queued.model, queued.width, queued.height, queued.precision))
        return {(row.model, row.width, row.height, row.precision): int(row[-1]) // share for row in found}
