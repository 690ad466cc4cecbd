"""How far the pictures are that somebody waits for: a small JSON that their page asks for again and again."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Row

from configs.plain_text import plain
from db.glimpses import Glimpse
from db.models import JobState
from db.search import Query as Asked
from db.search import find, term
from producer.glimpses import look
from producer.web.given import AnId, TheLedger, TheSettings
from producer.web.make_page import MOST_SHOWN
from producer.web.tiles import tile_of

router = APIRouter(include_in_schema=False)


@router.get("/make/progress/{batch_id}")
def progress(
    batch_id: AnId, settings: TheSettings, ledger: TheLedger, previews: Annotated[bool, Query()] = False
) -> dict[str, Any]:
    """The jobs of a batch: state, step, preview, and the picture's address once there is one."""
    jobs = find(ledger.engine, Asked((term("batch", batch_id),)), limit=MOST_SHOWN, ascending=True)
    running = [job.id for job in jobs if job.state is JobState.RUNNING]
    glimpses = look(settings, running, previews=previews) if running else {}
    ended = sum(job.state.is_final for job in jobs)
    text = f"{ended} of {len(jobs)} done." if running or ended else "Waiting for a worker …"
    return {"jobs": [_shown(job, glimpses) for job in jobs], "done": ended == len(jobs), "text": text}


def _shown(job: Row[Any], glimpses: Mapping[int, Glimpse]) -> dict[str, Any]:
    tile, glimpse = tile_of(job), glimpses.get(job.id)
    return {
        "id": job.id,
        "state": job.state.value,
        "final": job.state.is_final,
        "step": glimpse.step if glimpse else 0,
        "steps": glimpse.steps if glimpse else 0,
        "preview": f"data:image/webp;base64,{glimpse.preview}" if glimpse and glimpse.preview else "",
        "picture": tile.picture,
        "alt": tile.alt,
        "message": plain(job.message or "")[:2000],
    }
