"""The guard before every route: whose server it is, who asks, how much he sends, what a browser may do with it."""

import logging
from urllib.parse import quote, urlsplit

# Not starlette's: FastAPI would take that for a body that it cannot read.
from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.web.access import Access, Caller
from producer.web.arrival import asked_link, came_by_link, comes_from_elsewhere, is_taken
from producer.web.failures import answer_unforeseen, refuse
from producer.web.page import environment

LOG = logging.getLogger("uvicorn.error")
#: What is served to anybody: the way in, and what it looks like.
OPEN_PATHS = ("/log-in", "/static/")
#: Most bytes of a request: with files, and of any other.
MOST_BYTES, MOST_JSON = 64 * 2**20, 8 * 2**20
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: with it a browser sends a form without saying where it comes from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "private, no-cache",
    # By this the command line of another machine knows whom it asks.
    "X-Promptmill": "1",
}


class Guard:
    """ASGI middleware. What it lets through has ``request.state.caller``."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        caller = self._access.caller(headers)
        scope.setdefault("state", {})["caller"] = caller
        answer = self._dressed(scope, caller, send)
        if caller.is_new and came_by_link(scope, headers) and self._access.knows_host(headers.get("host", "")):
            # Who is logged in has a cookie, which his browser keeps back until a page of ours asks.
            return await HTMLResponse(arrival_page(asked_link(scope)), 401)(scope, receive, answer)
        if refusal := self._refusal(scope, headers, caller):
            return await refuse(Request(scope), refusal)(scope, receive, answer)
        try:
            await self._app(scope, bounded(receive, most_bytes(headers)), answer)
        except Exception as error:
            # Here, so that this answer has its headers too.
            LOG.exception("%s %s failed", scope["method"], scope["path"])
            if scope["state"].get("is_answered"):
                raise
            await answer_unforeseen(Request(scope), error)(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: Headers, caller: Caller) -> HTTPException | None:
        if not self._access.knows_host(headers.get("host", "")):
            return HTTPException(421, "This server does not answer to that name; `promptmill web --name` lets it.")
        if is_taken(scope, headers):
            return HTTPException(403, "Another site's page asked for this.")
        if caller.by == "nobody" and not scope["path"].startswith(OPEN_PATHS):
            return _log_in_first(scope, headers)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > most_bytes(headers):
            return too_large(most_bytes(headers))
        return None

    def _dressed(self, scope: Scope, caller: Caller, send: Send) -> Send:
        # Another site must not have our browser forget a session that it keeps back.
        sets_cookie = caller.is_new and not comes_from_elsewhere(Headers(scope=scope))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["state"]["is_answered"] = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if sets_cookie and headers.get("content-type", "").startswith("text/html"):
                    headers.append("set-cookie", self._access.cookie(caller.session, secure=scope["scheme"] == "https"))
            await send(message)

        return answer


def arrival_page(link: str) -> str:
    """A page that goes on to the link by itself."""
    return environment().get_template("arrival.html").render(link=link)


def most_bytes(headers: Headers) -> int:
    """How much a request may send."""
    return MOST_BYTES if headers.get("content-type", "").startswith("multipart/form-data") else MOST_JSON


def too_large(most: int) -> HTTPException:
    return HTTPException(413, f"That is more than {most // 2**20} MB; send it in parts, or as a file.")


def bounded(receive: Receive, most: int) -> Receive:
    """What is received, until it is too much; the length that a request claims is not believed."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise too_large(most)
        return message

    return limited


def _log_in_first(scope: Scope, headers: Headers) -> HTTPException:
    """Programs are told so; browsers are led to the page for it, and back."""
    reads_pages = "text/html" in headers.get("accept", "") and not scope["path"].startswith("/api/")
    if reads_pages and scope["method"] in ("GET", "HEAD"):
        return HTTPException(303, "Log in first.", {"Location": f"/log-in?next={quote(asked_link(scope), safe='/')}"})
    return HTTPException(401, "Log in first, or send a token.", {"WWW-Authenticate": 'Bearer realm="promptmill"'})


async def check_origin(request: Request) -> None:
    """Refuse a change that another site's page asks for in a browser's name. A dependency of every route.

    A program with a token is no browser; nor is one that sends neither cookie nor origin, which is let in only where
    nobody has to log in, and only to the API.
    """
    caller: Caller = request.state.caller
    if request.method in SAFE_METHODS or caller.by == "token":
        return
    seen = ("cookie", "origin", "sec-fetch-site", "referer")
    if caller.by == "open" and request.url.path.startswith("/api/") and not any(map(request.headers.get, seen)):
        return
    if not _comes_from_here(request):
        raise HTTPException(403, "Another site's page asked for this; nothing was changed.")
    access: Access = request.app.state.access
    token = request.headers.get("x-csrf-token") or (await request.form()).get("csrf_token")
    if not access.is_token_of(caller.session, token):
        raise HTTPException(403, "This page is too old; load it again, and try once more. Nothing was changed.")


def _comes_from_here(request: Request) -> bool:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
