"""What is to be told of batches, and who tells it: each event of a batch once, by whoever claims it first.

A claim is a compare-and-set and ends by itself. What its owner has not recorded as sent by then is claimed by another:
a crash between sending and recording has it sent twice, and none has it lost.
"""

import enum
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Engine, Row, and_, delete, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from db.ledger import Ledger
from db.models import BATCHES, HOLDS, NOTICES, WORKERS, Batch, Hold, Job, JobState, Notice, Worker, WorkerState
from db.patience import patiently
from db.reading import read

#: Jobs of which each must have failed for their batch to be failing.
MANY = 20
LEFT = Job.state.in_((JobState.QUEUED, JobState.RUNNING))


class Event(str, enum.Enum):
    """What there is to tell of a batch."""

    #: None of its jobs is left.
    ENDED = "ended"
    #: Some of its jobs are held back, since too many in a row failed with one cause.
    HELD = "held"
    #: All its jobs so far have failed, and they were many.
    FAILING = "failing"
    #: Its images' disk has no room.
    DISK = "disk"
    #: No worker is alive.
    WORKERS = "workers"


def ended(engine: Engine) -> Sequence[Row[Any]]:
    """The batches that have ended and of which nobody tells it yet, or has told it, oldest first."""
    left = exists().where(Job.batch_id == Batch.id, LEFT)
    return read(engine, _untold(Event.ENDED).where(~left))


def held(engine: Engine) -> Sequence[Row[Any]]:
    """As `ended`, the batches of which jobs are held back."""
    waiting = and_(Hold.batch_id == Batch.id, Job.batch_id == Batch.id, Job.model == Hold.model)
    held_back = exists().select_from(HOLDS).where(waiting, Job.state == JobState.QUEUED)
    return read(engine, _untold(Event.HELD).where(held_back))


def failing(engine: Engine) -> Sequence[Row[Any]]:
    """As `ended`, the batches that go on, and all of whose jobs so far have failed."""
    of_batch = Job.batch_id == Batch.id
    going = and_(exists().where(of_batch, LEFT), ~exists().where(of_batch, Job.state == JobState.SUCCEEDED))
    return [batch for batch in read(engine, _untold(Event.FAILING).where(going)) if _many_failed(engine, batch.id)]


def is_untold(engine: Engine, batch_id: int, event: Event) -> bool:
    """Whether nobody tells it, or has told it."""
    return bool(read(engine, _untold(event).where(Batch.id == batch_id)))


def workers_alive(engine: Engine, silence: float) -> bool:
    """Whether any worker has shown itself within so many seconds."""
    alive = (Worker.state != WorkerState.DEAD.value, Worker.seen_at > time.time() - silence)
    return bool(read(engine, select(Worker.name).select_from(WORKERS).where(*alive).limit(1)))


def claim(ledger: Ledger, batch_id: int, event: Event, seconds: float) -> float | None:
    """The right to tell it for so many seconds, as the time it ends; None where another has it, or has told it."""
    now = time.time()
    free = update(NOTICES).where(_is(batch_id, event), Notice.sent_at.is_(None), Notice.claimed_until < now)
    first = insert(NOTICES).values(batch_id=batch_id, event=event.value, claimed_until=now + seconds)

    def write() -> bool:
        with ledger.engine.begin() as connection:
            if connection.execute(select(NOTICES).where(_is(batch_id, event))).first() is None:
                connection.execute(first)
                return True
            return bool(connection.execute(free.values(claimed_until=now + seconds)).rowcount)

    try:
        return now + seconds if patiently(write) else None
    except IntegrityError:  # In PostgreSQL two can make it at once; or the batch is gone.
        return None


def extend(ledger: Ledger, batch_id: int, event: Event, until: float, seconds: float) -> float | None:
    """A claim ``until`` then, extended as `claim` does; None where it is no longer ours."""
    later = time.time() + seconds
    return later if _change(ledger, batch_id, event, until, claimed_until=later) else None


def record(ledger: Ledger, batch_id: int, event: Event, until: float) -> bool:
    """It is told: nobody shall tell it again. False where the claim was no longer ours."""
    return _change(ledger, batch_id, event, until, sent_at=time.time())


def release(ledger: Ledger, batch_id: int, event: Event, until: float) -> bool:
    """It could not be told yet, and the next one may try."""
    return _change(ledger, batch_id, event, until, claimed_until=0.0)


def forget(ledger: Ledger, events: Collection[Event], age: float) -> None:
    """What was told longer ago than ``age`` seconds has passed, and is told again when it comes again."""
    old = and_(Notice.event.in_([event.value for event in events]), Notice.sent_at < time.time() - age)
    _execute(ledger, delete(NOTICES).where(old))


def _many_failed(engine: Engine, batch_id: int) -> bool:
    failed = (Job.batch_id == batch_id, Job.state == JobState.FAILED)
    return len(read(engine, select(Job.id).where(*failed).limit(MANY))) == MANY


def _untold(event: Event) -> Any:
    """The submitted batches of which nobody tells an event, or has told it."""
    told = or_(Notice.sent_at.is_not(None), Notice.claimed_until >= time.time())
    mine = exists().where(Notice.batch_id == Batch.id, Notice.event == event.value, told)
    return select(BATCHES).where(Batch.submitted_at.is_not(None), ~mine).order_by(Batch.id)


def _change(ledger: Ledger, batch_id: int, event: Event, until: float, **values: float) -> bool:
    ours = and_(_is(batch_id, event), Notice.claimed_until == until, Notice.sent_at.is_(None))
    return bool(_execute(ledger, update(NOTICES).where(ours).values(values)))


def _is(batch_id: int, event: Event) -> Any:
    return and_(Notice.batch_id == batch_id, Notice.event == event.value)


def _execute(ledger: Ledger, statement: Any) -> int:
    return patiently(partial(_run, ledger.engine, statement))


def _run(engine: Engine, statement: Any) -> int:
    with engine.begin() as connection:
        count: int = connection.execute(statement).rowcount
        return count
