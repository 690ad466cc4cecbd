"""Logging in and out."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from producer.web.access import Caller
from producer.web.arrival import inside
from producer.web.given import TheAccess
from producer.web.page import page
from producer.web.sessions import COOKIE

router = APIRouter(include_in_schema=False)


@router.get("/log-in")
def show_log_in(request: Request, access: TheAccess, next: str = "/") -> Response:
    message = "" if access.credentials.password else "There is no password yet: `promptmill web --set-password`."
    return page(request, "log_in.html", next=inside(next), message=message)


@router.post("/log-in")
def log_in(
    request: Request,
    access: TheAccess,
    user: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    address = request.client.host if request.client else ""
    # Names that nobody has count together: they fill no memory.
    named = user if user == access.credentials.user else ""
    if wait := access.attempts.begin(address, named):
        message = "Too many tries; wait some minutes."
        said = {"Retry-After": str(round(wait) + 1)}
        return page(request, "log_in.html", status=429, headers=said, next=inside(next), message=message)
    session = access.log_in(user, password)
    if session is None:
        message = "That is not a user of this server with that password."
        return page(request, "log_in.html", status=401, next=inside(next), message=message)
    access.attempts.succeed(address, named)
    cookie = access.cookie(session, secure=request.url.scheme == "https")
    return RedirectResponse(inside(next), 303, {"Set-Cookie": cookie})


@router.post("/log-out")
def log_out(request: Request, access: TheAccess) -> Response:
    caller: Caller = request.state.caller
    access.sessions.end(caller.session)
    answer = RedirectResponse("/log-in", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
