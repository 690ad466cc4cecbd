"""The files behind the pages: thumbnails and pictures. A browser names a job, and never a path."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import Row
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from db import queries
from db.errors import NotInLedger
from db.ledger import Ledger
from producer.errors import PictureUnreadable
from producer.picture import file_of
from producer.thumbnails import Thumbnails, thumbnail_name
from producer.web.given import AnId, TheLedger, TheSettings
from producer.web.threads import SHRINKING, in_pool

router = APIRouter(include_in_schema=False)

#: A thumbnail's link names what it shows: it never changes.
FOR_GOOD = {"Cache-Control": "private, max-age=31536000, immutable"}
#: Stands for what cannot be shown; its file may come back.
PLACEHOLDER = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><g fill="none" stroke="#8d877a" stroke-width="2">'
    '<rect x="12" y="14" width="40" height="36" rx="3"/><path d="m12 44 12-12 8 8 6-6 14 12M8 8l48 48"/></g></svg>'
)


@router.get("/thumbnail/{job_id}/{name}.webp")
async def thumbnail(job_id: AnId, name: str, settings: TheSettings, ledger: TheLedger) -> Response:
    """The small picture of a job's image, made where it is not there yet; or what stands for it."""
    kept = Thumbnails(settings.home / "thumbnails")
    small = await run_in_threadpool(kept.read, name)
    try:
        small = small or await in_pool(SHRINKING, lambda: kept.make(_image(ledger, job_id, name), settings.images_root))
    except PictureUnreadable:
        return Response(PLACEHOLDER, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})
    return Response(small, media_type="image/webp", headers=FOR_GOOD)


def _image(ledger: Ledger, job_id: int, name: str) -> Row[Any]:
    """The job whose image is of that name. Raises NotInLedger."""
    row = queries.find_job(ledger.engine, job_id)
    if not row.image_path or thumbnail_name(row) != name:
        raise NotInLedger(f"Job {job_id} has no such image; load the page again.")
    return row


@router.get("/image/{job_id}/file")
def picture(job_id: AnId, settings: TheSettings, ledger: TheLedger, of: str = "") -> Response:
    """The very file. of: the pixels that the link was made for, whose picture never changes."""
    row = queries.find_job(ledger.engine, job_id)
    path = file_of(row, settings.images_root)
    if path is None or not path.is_file():
        raise NotInLedger(f"The image of job {job_id} is not on this disk.")
    headers = FOR_GOOD if of == row.image_sha256 else {}
    return FileResponse(path, filename=path.name, content_disposition_type="inline", headers=headers)
