"""Jobs: one, those that a query finds, their images, and what these say of themselves."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse
from sqlalchemy import Row

from db import queries
from db.errors import NotInLedger
from db.ledger import Ledger
from db.search import find
from producer.errors import NoRecord, PictureUnreadable
from producer.history import read_place, record, wanted
from producer.picture import file_of
from producer.show import read_image
from producer.web.api import shapes
from producer.web.given import LARGEST_ID, TheLedger, TheSettings

router = APIRouter(prefix="/jobs", tags=["jobs"])
JobId = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Its number.")]
Sort = Literal["id", "finished", "seed", "steps", "scale", "took", "bytes"]
PICTURES = {200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (
    "image/png", "image/jpeg", "image/webp")}}}  # fmt: skip


def shown(job: Row[Any], settings: TheSettings) -> dict[str, Any]:
    """A job as the API has it: with the address of its image, and no path of it."""
    found = record(job, settings.images_root)
    return {**found, "image_url": f"/api/v1/jobs/{job.id}/image" if job.image_path else None}


@router.get("", response_model=shapes.JobPage)
def find_jobs(
    settings: TheSettings,
    ledger: TheLedger,
    q: Annotated[
        str, Query(max_length=2000, description="A query as docs/history.md has it.", examples=["castle steps:20..30"])
    ] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    after: Annotated[str | None, Query(max_length=100, description="The `next` of the page before.")] = None,
    sort: Sort = "id",
    ascending: bool = False,
) -> Any:
    """Find jobs by a query in the language of `promptmill history`, newest first."""
    place = read_place(after, sort) if after else None
    query = wanted(ledger.engine, (q,))
    found = find(ledger.engine, query, limit=limit, after=place, sort=sort, ascending=ascending)
    following = f"{sort}:{found[-1].place}:{found[-1].id}" if len(found) == limit else None
    return {"jobs": [shown(job, settings) for job in found], "next": following}


@router.get("/{job_id}", response_model=shapes.Job)
def show_job(job_id: JobId, settings: TheSettings, ledger: TheLedger) -> Any:
    """One job, with what it asked for and what made its image."""
    return shown(queries.find_job(ledger.engine, job_id), settings)


@router.get("/{job_id}/image", response_class=FileResponse, responses=PICTURES)  # type: ignore[arg-type]
def picture(job_id: JobId, settings: TheSettings, ledger: TheLedger) -> FileResponse:
    """The file of its image."""
    path = _file(ledger, settings, job_id)
    return FileResponse(path, filename=path.name, content_disposition_type="inline")


@router.get("/{job_id}/metadata", response_model=shapes.Metadata)
def metadata(job_id: JobId, settings: TheSettings, ledger: TheLedger) -> Any:
    """What the file of its image says of itself: the infotext, and the record."""
    try:
        found = read_image(_file(ledger, settings, job_id))
    except (NoRecord, PictureUnreadable) as error:
        # Their own sentences name the file.
        raise NotInLedger(f"The image of job {job_id} does not say what made it.") from error
    return {"infotext": found.infotext, "record": found.record}


def _file(ledger: Ledger, settings: TheSettings, job_id: int) -> Any:
    path = file_of(queries.find_job(ledger.engine, job_id), settings.images_root)
    if path is None or not path.is_file():
        raise NotInLedger(f"Job {job_id} has no image on this disk.")
    return path
