"""Batches: submitted, followed, paused, resumed, cancelled, tried again, put in another order."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Path, Query, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy import Row

from configs.settings import Settings
from db import queries
from db.ledger import Ledger
from producer.plan import make_plan
from producer.report import gather
from producer.report_page import render
from producer.submit import Submission as Checked
from producer.web import intake
from producer.web.api import shapes
from producer.web.courses import Courses
from producer.web.given import LARGEST_ID, TheCourses, TheLedger, TheSettings
from producer.web.options import read_options
from producer.web.report import POLICY
from producer.web.threads import DRAWING, in_pool

router = APIRouter(prefix="/batches", tags=["batches"])
BatchId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Its number.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=8, max_length=200, description="A request repeated with it does nothing."
    ),
]


def shown(batch: Row[Any], courses: Courses) -> dict[str, Any]:
    """A batch as the API has it."""
    course = courses.of(batch.id)
    own = {name: getattr(batch, name) for name in shapes.Batch.model_fields if hasattr(batch, name)}
    return {
        **own,
        "standing": course.standing,
        "counts": asdict(course.counts),
        "images_per_second": course.images_per_second,
        "seconds_left": course.seconds_left,
    }


@router.get("", response_model=shapes.BatchPage)
def list_batches(
    ledger: TheLedger,
    courses: TheCourses,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    before: Annotated[int | None, Query(ge=1, le=LARGEST_ID, description="The `next` of the page before.")] = None,
    name: Annotated[str | None, Query(max_length=300, description="The newest of this name or number alone.")] = None,
) -> Any:
    """List batches, newest first."""
    if name is not None:
        return {"batches": [shown(queries.find_batch(ledger.engine, name), courses)], "next": None}
    found = queries.batches(ledger.engine, limit, before)
    return {"batches": [shown(b, courses) for b in found], "next": found[-1].id if len(found) == limit else None}


@router.post("", response_model=shapes.Submitted, status_code=201, responses={200: {"model": shapes.Plan}})
def submit_rows(
    asked: shapes.Submission,
    response: Response,
    settings: TheSettings,
    ledger: TheLedger,
    courses: TheCourses,
    key: Key = None,
) -> Any:
    """Submit rows. All are checked first: with a wrong one, nothing is queued. With `plan`, answers 200 and a plan."""
    checked = intake.check_upload(
        intake.write_rows(row.model_dump() for row in asked.rows), "rows.jsonl", settings, **read_options(asked)
    )
    return _take(checked, asked, response, settings, ledger, courses, key)


@router.post("/file", response_model=shapes.Submitted, status_code=201, responses={200: {"model": shapes.Plan}})
def submit_file(
    response: Response,
    settings: TheSettings,
    ledger: TheLedger,
    courses: TheCourses,
    file: Annotated[
        UploadFile, File(description="CSV, TSV, plain text or JSON lines, as docs/prompt-files.md has it.")
    ],
    options: Annotated[str, Form(description="JSON, as the body of `POST /batches` without `rows`.")] = "{}",
    key: Key = None,
) -> Any:
    """Submit a prompt file. All rows are checked first: with a wrong one, nothing is queued."""
    try:
        asked = shapes.Options.model_validate_json(options)
    except ValidationError as error:
        wrong = [{**found, "loc": ("body", "options", *found["loc"])} for found in error.errors()]
        raise RequestValidationError(wrong) from error
    checked = intake.check_upload(file.file.read(), file.filename or "", settings, **read_options(asked))
    return _take(checked, asked, response, settings, ledger, courses, key)


def _take(
    checked: Checked,
    asked: shapes.Options,
    response: Response,
    settings: Settings,
    ledger: Ledger,
    courses: Courses,
    key: str | None,
) -> dict[str, Any] | Response:
    warnings = intake.warnings(checked)
    if asked.once:
        checked = intake.drop_repeats(checked)
    if asked.plan:
        plan = make_plan(checked, ledger.engine, settings, None)
        told = shapes.Plan(**asdict(plan), lines=list(plan.lines()), warnings=warnings)
        return Response(told.model_dump_json(), media_type="application/json")
    queued = intake.enqueue(checked, ledger, settings, key=key, anyway=asked.anyway)
    response.headers["Location"] = f"/api/v1/batches/{queued.batch.id}"
    return {
        "batch": shown(queued.batch, courses),
        "sent": queued.sent,
        "repeated": queued.is_repeated,
        "note": queued.note,
        "warnings": warnings,
    }


@router.get("/{batch_id}", response_model=shapes.BatchDetail)
def show_batch(batch_id: BatchId, ledger: TheLedger, courses: TheCourses) -> Any:
    """One batch: its jobs by state, its rate, and the time to go."""
    batch = _find(ledger, batch_id)
    holds = [dict(hold._mapping) for hold in queries.holds(ledger.engine, batch_id)]
    return {**shown(batch, courses), "holds": holds, "flagged": queries.flags(ledger.engine, batch_id)}


@router.post("/{batch_id}/pause", response_model=shapes.Changed)
def pause(batch_id: BatchId, ledger: TheLedger, courses: TheCourses) -> Any:
    """Start no more jobs of it; those in the making finish."""
    ledger.pause_batch(_find(ledger, batch_id).id)
    return _changed(ledger, courses, batch_id, None, "Paused; `resume` goes on.")


@router.post("/{batch_id}/resume", response_model=shapes.Changed)
def resume(batch_id: BatchId, settings: TheSettings, ledger: TheLedger, courses: TheCourses) -> Any:
    """Make what is not made yet, what was held back too."""
    queued = intake.go_on(_find(ledger, batch_id), ledger, settings)
    return _changed(ledger, courses, batch_id, queued.sent, queued.note)


@router.post("/{batch_id}/cancel", response_model=shapes.Changed)
def cancel(batch_id: BatchId, ledger: TheLedger, courses: TheCourses) -> Any:
    """Cancel its queued jobs; those on a device are taken off it within a second or two."""
    count = ledger.cancel_batch(_find(ledger, batch_id).id)
    return _changed(ledger, courses, batch_id, count, "Cancelled; `retry` makes them after all.")


@router.post("/{batch_id}/retry", response_model=shapes.Changed)
def retry(batch_id: BatchId, settings: TheSettings, ledger: TheLedger, courses: TheCourses) -> Any:
    """Try its failed and cancelled jobs again, and go on as `resume` does."""
    batch = _find(ledger, batch_id)
    count = ledger.retry_batch(batch_id)
    queued = intake.go_on(batch, ledger, settings)
    return _changed(ledger, courses, batch_id, count, queued.note)


@router.put("/{batch_id}/priority", response_model=shapes.Changed)
def prioritise(
    batch_id: BatchId, asked: shapes.Priority, settings: TheSettings, ledger: TheLedger, courses: TheCourses
) -> Any:
    """Have it made sooner or later."""
    queued = intake.prioritise(_find(ledger, batch_id), asked.priority, ledger, settings)
    return _changed(ledger, courses, batch_id, queued.sent, queued.note)


@router.get(
    "/{batch_id}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def report(
    batch_id: BatchId,
    settings: TheSettings,
    ledger: TheLedger,
    tag: Annotated[str | None, Query(max_length=200, description="What the pictures are grouped by.")] = None,
    pictures: Annotated[int, Query(ge=0, le=1000)] = 120,
) -> Response:
    """What became of it, as one HTML file that needs nothing beside itself."""

    def write() -> str:
        batch = _find(ledger, batch_id)
        return render(gather(ledger.engine, batch, settings.images_root, tag=tag, pictures=pictures))

    return Response(await in_pool(DRAWING, write), media_type="text/html", headers={"Content-Security-Policy": POLICY})


def _find(ledger: Ledger, batch_id: int) -> Row[Any]:
    return queries.find_batch(ledger.engine, str(batch_id))


def _changed(ledger: Ledger, courses: Courses, batch_id: int, jobs: int | None, note: str) -> dict[str, Any]:
    courses.forget(batch_id)
    return {"batch": shown(_find(ledger, batch_id), courses), "jobs": jobs, "note": note}
