"""The workers, wherever they are."""

from typing import Any

from fastapi import APIRouter

from producer.roster import find_workers
from producer.web.api import shapes
from producer.web.given import TheLedger, TheSettings

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get("", response_model=list[shapes.Worker])
def list_workers(settings: TheSettings, ledger: TheLedger) -> Any:
    """List the workers: where they are, what they do, how fast."""
    return find_workers(ledger.engine, settings.lease_seconds)
