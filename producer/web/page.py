"""A page: a template filled in for the one who asks."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from producer.progress import clock
from producer.report_page import duration, number, percent, plain_lines
from producer.table import moment


def page(
    request: Request, template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """Render a template with the caller's name and the token of his forms."""
    caller, access = request.state.caller, request.app.state.access
    shown = {
        "nav": "",
        "request": request,
        "tabs": request.app.state.tabs,
        "user": caller.user,
        "has_session": caller.by == "session",
        "is_outside": caller.by == "nobody",
        "csrf_token": access.sessions.csrf_token(caller.session),
    }
    text = environment().get_template(template).render({**shown, **values})
    return HTMLResponse(text, status, headers)


@cache
def environment() -> Environment:
    # Escapes whatever a prompt, a tag or an error holds.
    found = Environment(autoescape=True, loader=PackageLoader("producer.web"), undefined=StrictUndefined)
    found.trim_blocks = found.lstrip_blocks = True
    found.filters.update(moment=moment, plain=plain_lines, duration=duration, percent=percent, number=number)
    found.filters.update(clock=clock)
    return found
