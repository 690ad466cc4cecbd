"""What a failed request is answered: a page for people, problem+json (RFC 9457) for programs; one sentence in both."""

from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from configs.errors import ConfigError
from configs.redaction import redact
from db.errors import LedgerError, LedgerUnreachable, NotInLedger
from producer.errors import InvalidPromptFile, ProducerError, QueueUnreachable, UsageError, tell_foreign
from producer.web.page import page

PROBLEM = "application/problem+json"
#: Errors by what the caller can do about them; the first that fits counts.
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotInLedger, 404),
    (LedgerUnreachable, 503),
    (QueueUnreachable, 503),
    (UsageError, 422),
    (ConfigError, 422),
    (ProducerError, 409),
    (LedgerError, 409),
)


def refuse(request: Request, error: HTTPException) -> Response:
    """Answer what HTTP itself has a number for."""
    if error.status_code in (303, 307) or error.status_code == 304:
        return Response(status_code=error.status_code, headers=error.headers)
    return problem(request, error.status_code, str(error.detail), headers=dict(error.headers or {}))


def problem(
    request: Request, status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """The answer, for a program, below ``/api/`` or where no page is wanted, or for a person."""
    title = HTTPStatus(status).phrase
    if _is_program(request):
        content = {"title": title, "status": status, "detail": detail, **more}
        return JSONResponse(content, status, headers, PROBLEM)
    return page(request, "failure.html", status=status, headers=headers, title=title, detail=detail)


def answer_error(request: Request, error: Exception) -> Response:
    """The answer to an error raised on purpose: the sentence that the command would print."""
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    more: dict[str, Any] = {}
    if isinstance(error, InvalidPromptFile):
        more = {"problems": [str(found) for found in error.problems], "total": error.total}
    return problem(request, status, redact(str(error)), **more)


def answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(request, error)


def answer_invalid(request: Request, error: Exception) -> Response:
    """Say what is wrong with which part of a request."""
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(map(str, found['loc'][1:]))}: {found['msg']}" for found in error.errors()]
    return problem(request, 422, "; ".join(wrong) + ".", errors=wrong)


def answer_unforeseen(request: Request, error: Exception) -> Response:
    """The answer to what nobody raised on purpose; the server's log has the traceback."""
    if told := tell_foreign(error):
        return problem(request, 503, redact(told))
    return problem(request, 500, "Something went wrong here; the server's log says what.")


def _is_program(request: Request) -> bool:
    return request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", "")
