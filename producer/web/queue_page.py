"""The queue: batches and how far they are, what can be done with them, and the workers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy import Row
from starlette.responses import RedirectResponse, Response

from db import queries
from db.ledger import Ledger
from db.models import WorkerState
from producer.roster import find_workers
from producer.web import intake
from producer.web.courses import Course
from producer.web.given import LARGEST_ID, TheCourses, TheLedger, TheSettings
from producer.web.page import page

router = APIRouter(include_in_schema=False)
BatchId = Annotated[int, Path(ge=1, le=LARGEST_ID)]

#: Batches on a page.
PAGE = 20


class Line(NamedTuple):
    """A batch on the page."""

    batch: Row[Any]
    course: Course
    #: What is held back of it, and why.
    holds: Sequence[Row[Any]]


class Standing(NamedTuple):
    """The workers together."""

    alive: int
    rate: float
    #: Jobs of the batches shown that are not made yet.
    left: int

    @property
    def seconds_left(self) -> float | None:
        return self.left / self.rate if self.left and self.rate else None


@router.get("/queue")
def queue(
    request: Request,
    settings: TheSettings,
    ledger: TheLedger,
    courses: TheCourses,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
) -> Response:
    """Newest first; the page asks for itself every other second."""
    found = queries.batches(ledger.engine, PAGE, before)
    lines = [_line(ledger, batch, courses.of(batch.id)) for batch in found]
    workers = find_workers(ledger.engine, settings.lease_seconds)
    older = found[-1].id if len(found) == PAGE else None
    return page(
        request, "queue.html", nav="queue", lines=lines, workers=workers, older=older, before=before,
        standing=_standing(lines, workers),
    )  # fmt: skip


def _line(ledger: Ledger, batch: Row[Any], course: Course) -> Line:
    return Line(batch, course, queries.holds(ledger.engine, batch.id) if course.counts.held else ())


def _standing(lines: Sequence[Line], workers: Sequence[Mapping[str, Any]]) -> Standing:
    alive = [worker for worker in workers if worker["state"] != WorkerState.DEAD.value]
    left = sum(line.course.counts.left for line in lines if line.course.standing in ("making", "waiting"))
    return Standing(len(alive), sum(worker["rate"] for worker in alive), left)


@router.post("/queue/{batch_id}/pause")
def pause(batch_id: BatchId, ledger: TheLedger, courses: TheCourses) -> Response:
    ledger.pause_batch(batch_id)
    return _back(batch_id, courses)


@router.post("/queue/{batch_id}/resume")
def resume(batch_id: BatchId, settings: TheSettings, ledger: TheLedger, courses: TheCourses) -> Response:
    intake.go_on(_find(ledger, batch_id), ledger, settings)
    return _back(batch_id, courses)


@router.post("/queue/{batch_id}/cancel")
def cancel(batch_id: BatchId, ledger: TheLedger, courses: TheCourses) -> Response:
    ledger.cancel_batch(batch_id)
    return _back(batch_id, courses)


@router.post("/queue/{batch_id}/retry")
def retry(batch_id: BatchId, settings: TheSettings, ledger: TheLedger, courses: TheCourses) -> Response:
    batch = _find(ledger, batch_id)
    ledger.retry_batch(batch_id)
    intake.go_on(batch, ledger, settings)
    return _back(batch_id, courses)


@router.post("/queue/{batch_id}/priority")
def prioritise(
    batch_id: BatchId,
    priority: Annotated[int, Form(ge=0, le=9)],
    settings: TheSettings,
    ledger: TheLedger,
    courses: TheCourses,
) -> Response:
    intake.prioritise(_find(ledger, batch_id), priority, ledger, settings)
    return _back(batch_id, courses)


def _find(ledger: Ledger, batch_id: int) -> Row[Any]:
    return queries.find_batch(ledger.engine, str(batch_id))


def _back(batch_id: int, courses: TheCourses) -> Response:
    """To the page, at the batch's place."""
    courses.forget(batch_id)
    return RedirectResponse(f"/queue#batch-{batch_id}", 303)
