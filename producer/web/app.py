"""The application: all pages and the API behind one guard."""

from functools import partial
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from configs.errors import ConfigError
from configs.settings import Settings
from db.errors import LedgerError
from db.ledger import Ledger
from producer.errors import ProducerError
from producer.web import (
    api,
    batch_page,
    history,
    image_page,
    log_in,
    make_page,
    making,
    pictures,
    queue_page,
    report,
    rerun_page,
    selection,
)  # fmt: skip
from producer.web.access import Access
from producer.web.courses import Courses
from producer.web.failures import answer_error, answer_http, answer_invalid
from producer.web.guard import Guard, check_origin

STATIC = Path(__file__).with_name("static")
#: Every group of pages.
ROUTERS: tuple[APIRouter, ...] = (
    log_in.router,
    api.router,
    queue_page.router,
    history.router,
    image_page.router,
    pictures.router,
    selection.router,
    rerun_page.router,
    report.router,
    make_page.router,
    making.router,
    batch_page.router,
)
#: What the head of each page leads to: the name of the page, its path and its text.
TABS = (
    ("make", "/", "Make"),
    ("batch", "/batch", "Batch"),
    ("queue", "/queue", "Queue"),
    ("history", "/history", "History"),
)


def create_app(settings: Settings, ledger: Ledger, access: Access) -> FastAPI:
    """The pages and the API of one ledger."""
    app = FastAPI(
        title="Promptmill",
        version="1",
        description="Submit prompts, follow batches, find what was made. Errors are application/problem+json.",
        docs_url=None,  # It would load scripts from another site.
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        dependencies=[Depends(check_origin)],
    )
    app.state.settings, app.state.ledger, app.state.access = settings, ledger, access
    app.state.courses = Courses(ledger.engine)
    app.add_middleware(partial(Guard, access=access))
    for kind in (ProducerError, LedgerError, ConfigError):
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    for router in ROUTERS:
        app.include_router(router)
    served = {getattr(route, "path", "") for router in ROUTERS for route in router.routes}
    app.state.tabs = [tab for tab in TABS if tab[1] in served]
    if "/" not in served:
        app.add_route("/", lambda _: RedirectResponse("/queue"), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
