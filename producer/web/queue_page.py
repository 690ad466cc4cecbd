"""The queue: batches and how far they are, and the workers."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from db import queries
from producer.web.given import TheLedger
from producer.web.page import page

router = APIRouter(include_in_schema=False)


@router.get("/queue")
def queue(request: Request, ledger: TheLedger) -> Response:
    return page(request, "queue.html", nav="queue", batches=queries.batches(ledger.engine))
