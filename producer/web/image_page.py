"""An image's page: the picture, all that made it, and what can be done with it."""

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Row
from starlette.responses import Response

from configs.settings import Settings
from db import queries
from db.neighbours import neighbours
from producer.command_line import command_line
from producer.errors import NoRecord, PictureUnreadable
from producer.picture import file_of
from producer.show import read_image
from producer.web.facts import asked, made
from producer.web.given import AnId, TheLedger, TheSettings
from producer.web.links import all_of_prompt, all_with
from producer.web.page import page
from producer.web.tiles import tile_of

router = APIRouter(include_in_schema=False)

#: Jobs of the batch that are shown to each side of this one.
NEAR = 4


@router.get("/image/{job_id}")
def image(request: Request, job_id: AnId, settings: TheSettings, ledger: TheLedger) -> Response:
    """All of a job and of its image; while it has none, how it stands, or why it failed."""
    job = queries.find_job(ledger.engine, job_id)
    strip = neighbours(ledger.engine, job.batch_id, job_id, NEAR)
    place = [row.id for row in strip].index(job_id)
    infotext, problem = _look(job, settings)
    shown: dict[str, Any] = {
        "previous": strip[place - 1].id if place else 0,
        "next": next((r.id for r in strip[place + 1 :]), 0),
    }
    shown |= {"tile": tile_of(job), "strip": [tile_of(row) for row in strip]}
    shown |= {"infotext": infotext, "problem": problem, "command": command_line(job)}
    shown |= {"asked": asked(job), "made": made(job)}
    shown |= {"tags": [(name, value, all_with(f"tag.{name}", value)) for name, value in job.tags.items()]}
    shown |= {"same_seed": all_with("seed", job.seed), "same_prompt": all_of_prompt(job.prompt)}
    return page(request, "image.html", nav="history", job=job, **shown)


def _look(job: Row[Any], settings: Settings) -> tuple[str, str]:
    """The infotext in an image's file, and what is wrong with the file."""
    path = file_of(job, settings.images_root)
    if path is None:
        return "", ""
    if not path.is_file():
        return "", "The file of this image is not on this disk."
    try:
        return read_image(path).infotext or "", ""
    except NoRecord:
        return "", ""
    except PictureUnreadable:
        return "", "The file of this image is broken; `promptmill fsck` says more."
