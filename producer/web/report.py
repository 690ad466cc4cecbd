"""The report of a batch: as a page, and as the file that it is."""

from functools import partial

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from configs.settings import Settings
from db import queries
from db.ledger import Ledger
from producer.report import gather
from producer.report_page import render
from producer.web.given import AnId, TheLedger, TheSettings
from producer.web.threads import DRAWING, in_pool

router = APIRouter(include_in_schema=False)

#: The page carries its own style and pictures, and no script: it may do nothing else.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


@router.get("/batch/{batch_id}/report")
async def report(
    batch_id: AnId, settings: TheSettings, ledger: TheLedger, tag: str | None = None, download: bool = False
) -> Response:
    """What became of it; its pictures are gathered in a thread, for they take a while."""
    headers = {"Content-Security-Policy": POLICY}
    if download:
        headers["Content-Disposition"] = f'attachment; filename="promptmill-batch-{batch_id}.html"'
    written = partial(_write, settings, ledger, batch_id, tag, served=not download)
    return HTMLResponse(await in_pool(DRAWING, written), headers=headers)


def _write(settings: Settings, ledger: Ledger, batch_id: int, tag: str | None, *, served: bool) -> str:
    batch = queries.find_batch(ledger.engine, str(batch_id))
    return render(gather(ledger.engine, batch, settings.images_root, tag=tag), served=served)
