"""The HTTP API: what the command line can do, for programs and for the command line of another machine."""

from typing import Any

from fastapi import APIRouter, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from producer.web.api import batches, jobs, workers
from producer.web.api.shapes import Problem
from producer.web.sessions import COOKIE

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "It was not done, and why.",
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
}
# The guard is what checks them; these are for the description.
TOKEN = HTTPBearer(auto_error=False, description="A token of `promptmill web --new-token NAME`.")
SESSION = APIKeyCookie(name=COOKIE, auto_error=False, description="A browser's; changes need X-CSRF-Token too.")

router = APIRouter(prefix="/api/v1", responses=PROBLEMS, dependencies=[Security(TOKEN), Security(SESSION)])
for part in (batches, jobs, workers):
    router.include_router(part.router)
