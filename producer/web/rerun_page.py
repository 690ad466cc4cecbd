"""Jobs once more, as they were or with what a form sets."""

from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from sqlalchemy import Row
from starlette.responses import RedirectResponse, Response

from configs.samplers import known_samplers
from configs.settings import Settings
from db import queries
from db.glimpses import INTERACTIVE
from db.ledger import Ledger
from db.search import Query, find, term
from producer.export import Rows
from producer.rerun import Again, read_changes, row_of_job, submission_of
from producer.web import intake
from producer.web.given import AnId, TheLedger, TheSettings
from producer.web.links import history_link
from producer.web.page import page
from producer.web.selection import MOST_JOBS, Chosen
from producer.web.tiles import tile_of

router = APIRouter(include_in_schema=False)

#: Jobs that are shown before they are made again.
SAMPLE = 12
Value = Annotated[str, Form(max_length=200)]


@dataclass
class Changes:
    """What a form may set; empty: as it was. No file is among it: a path from a browser never reaches the disk."""

    seed: Value = ""
    steps: Value = ""
    scale: Value = ""
    sampler: Value = ""
    size: Value = ""
    num_images: Value = ""


@router.get("/selection/rerun")
def show_rerun(request: Request, chosen: Chosen) -> Response:
    """How many jobs they are, and what can be set."""
    rows = chosen.rows()
    tiles = [tile_of(row) for row in islice(rows, SAMPLE)]
    jobs = len(tiles) + sum(1 for _ in rows)
    shown: dict[str, Any] = {"tiles": tiles, "jobs": jobs, "most": MOST_JOBS, "samplers": known_samplers()}
    return page(request, "rerun.html", nav="history", asked=request.url.query, **shown)


@router.post("/selection/rerun")
def rerun(
    chosen: Chosen, settings: TheSettings, ledger: TheLedger, changes: Annotated[Changes, Depends()], name: Value = ""
) -> Response:
    """Record and send them as one batch, and lead to its jobs."""
    batch = make_again(settings, ledger, chosen.rows, changes, name)
    return RedirectResponse(history_link(f"batch:{batch.id}"), 303)


@router.post("/image/{job_id}/rerun")
def rerun_image(job_id: AnId, settings: TheSettings, ledger: TheLedger, seed: Value = "") -> Response:
    """The same with one job, and lead to the new one."""
    job = queries.find_job(ledger.engine, job_id)
    # Somebody waits for it before the page.
    batch = make_again(settings, ledger, lambda: [job], Changes(seed=seed), priority=INTERACTIVE)
    (first,) = find(ledger.engine, Query((term("batch", batch.id),)), limit=1, ascending=True)
    return RedirectResponse(f"/image/{first.id}", 303)


def make_again(
    settings: Settings, ledger: Ledger, rows: Rows, changes: Changes, name: str = "", priority: int | None = None
) -> Row[Any]:
    """Record jobs as a new batch, and send it where a queue runs; else the next worker finds it.

    Raises:
        RerunRefused: one of them cannot be made so; nothing is recorded.
        DiskTooSmall: the images would not fit.
    """
    wanted = read_changes([f"{field}={value.strip()}" for field, value in asdict(changes).items() if value.strip()])
    again = Again(map(row_of_job, rows()), wanted, settings.roots)
    submission = submission_of(again, settings, name.strip() or None)
    if priority is not None:
        submission = replace(submission, batch=replace(submission.batch, priority=priority))
    return intake.enqueue(submission, ledger, settings).batch
