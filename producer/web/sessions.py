"""Sessions: what a browser's cookie says, signed, and for how long it is believed.

The key is drawn when the server starts and depends on the password: a restart and a new password end all sessions.
"""

import base64
import hashlib
import hmac
import secrets
import threading
import time
from binascii import Error as NoBase64

import msgspec

COOKIE = "promptmill_session"
#: Seconds that a session lasts.
LIFETIME = 3 * 86_400


class Session(msgspec.Struct, frozen=True):
    """One browser's; ``user`` is empty for one that has not logged in."""

    id: str
    user: str
    ends_at: int

    @classmethod
    def begin(cls, user: str = "") -> "Session":
        return cls(secrets.token_urlsafe(18), user, int(time.time()) + LIFETIME)


class Sessions:
    """Signs sessions, and knows which have been ended before their time."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._ended: dict[str, int] = {}
        self._lock = threading.Lock()

    def seal(self, session: Session, salt: bytes) -> str:
        """The cookie of a session. salt: what ends all sessions when it changes."""
        body = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{body}.{self._sign('session', body, salt)}"

    def open(self, cookie: str, salt: bytes) -> Session | None:
        """The session of a cookie; None where it is not ours, or over."""
        body, _, signature = cookie.partition(".")
        if not hmac.compare_digest(self._sign("session", body, salt).encode(), signature.encode("utf-8", "replace")):
            return None
        try:
            session = msgspec.json.decode(base64.urlsafe_b64decode(body), type=Session)
        except (NoBase64, msgspec.DecodeError):
            return None
        return session if session.ends_at > time.time() and session.id not in self._ended else None

    def end(self, session: Session) -> None:
        """Believe its cookie no longer."""
        with self._lock:
            now = time.time()
            self._ended = {name: until for name, until in self._ended.items() if until > now}
            self._ended[session.id] = session.ends_at

    def csrf_token(self, session: Session) -> str:
        """What a form of this session carries, and no other site can know."""
        return self._sign("csrf", session.id, b"")

    def _sign(self, purpose: str, text: str, salt: bytes) -> str:
        message = b"\0".join((purpose.encode(), text.encode("utf-8", "replace"), salt))
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
