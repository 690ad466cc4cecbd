"""Access: who asks, by token or session, and whether he may."""

import hmac
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Literal

from starlette.datastructures import Headers

from producer.web.attempts import Attempts
from producer.web.credentials import FILE_NAME, Credentials, read_credentials
from producer.web.sessions import COOKIE, LIFETIME, Session, Sessions

#: What a browser on this machine calls it.
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Caller:
    """Who asks. ``open``: anybody, since nobody has to say who he is; ``nobody``: he has to, and has not."""

    by: Literal["open", "session", "token", "nobody"]
    user: str
    session: Session
    #: Whether the browser has no cookie of that session yet.
    is_new: bool = False


class Access:
    """The rules of one server. hosts: the names it answers to; None: any, since everybody has to log in."""

    def __init__(self, home: Path, hosts: Iterable[str] | None = LOOPBACK, *, open_to_all: bool = True) -> None:
        self._home = home
        self._seen: object = None
        self._credentials = Credentials()
        self._checking = threading.BoundedSemaphore(2)
        self.hosts = None if hosts is None else frozenset(map(str.lower, hosts))
        self.open_to_all = open_to_all
        self.sessions = Sessions()
        self.attempts = Attempts()

    @property
    def credentials(self) -> Credentials:
        """As the file has them now: a new password or token needs no restart."""
        try:
            found = (self._home / FILE_NAME).stat()
            seen: object = (found.st_ino, found.st_mtime_ns)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            self._credentials, self._seen = read_credentials(self._home), seen
        return self._credentials

    @property
    def is_open(self) -> bool:
        """Whether nobody has to say who he is."""
        return self.open_to_all and not self.credentials

    def knows_host(self, host: str) -> bool:
        """Whether a ``Host`` header names this server: a page of another name cannot read it by rebinding that name."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        return self.hosts is None or name.strip("[]").lower().rstrip(".") in self.hosts

    def caller(self, headers: Headers) -> Caller:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            name = self.credentials.token_name(token.strip())
            return Caller("token" if name is not None else "nobody", name or "", Session.begin())
        session = self._session(headers)
        if session and session.user:
            return Caller("session", session.user, session)
        return Caller("open" if self.is_open else "nobody", "", session or Session.begin(), is_new=session is None)

    def log_in(self, user: str, password: str) -> Session | None:
        """A session of the user; None where that is not his password."""
        with self._checking:
            return Session.begin(user) if self.credentials.admits(user, password) else None

    def cookie(self, session: Session, *, secure: bool) -> str:
        """The ``Set-Cookie`` header that begins a session."""
        sealed = self.sessions.seal(session, self._salt())
        rest = f"; Path=/; Max-Age={LIFETIME}; HttpOnly; SameSite=Strict"
        return f"{COOKIE}={sealed}{rest}{'; Secure' if secure else ''}"

    def is_token_of(self, session: Session, token: object) -> bool:
        """Whether a form was written for this session."""
        right = self.sessions.csrf_token(session)
        return isinstance(token, str) and hmac.compare_digest(right.encode(), token.encode("utf-8", "replace"))

    def _session(self, headers: Headers) -> Session | None:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        return self.sessions.open(found.value, self._salt()) if found else None

    def _salt(self) -> bytes:
        password = self.credentials.password
        return password.digest if password else b""
