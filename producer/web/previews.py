"""Prompt files between their preview and their submission: few, for a while, and for the session that sent them."""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

#: Bytes of all together, and seconds that one is kept.
MOST_BYTES, LASTS = 128 * 2**20, 1800.0


@dataclass(frozen=True)
class Kept:
    """A file, and what was said about it."""

    session: str
    content: bytes
    filename: str
    given: dict[str, str]
    at: float = field(default_factory=time.monotonic)


class Previews:
    """Those of one server. Any thread may use it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, file: Kept) -> str:
        """The word to ask for it by; the oldest make room."""
        word = secrets.token_urlsafe(18)
        with self._lock:
            self._kept[word] = file
            while len(self._kept) > 1 and sum(len(one.content) for one in self._kept.values()) > MOST_BYTES:
                self._kept.popitem(last=False)
        return word

    def find(self, word: str, session: str) -> Kept | None:
        """It, unless it is gone or somebody else's."""
        with self._lock:
            for old in [name for name, one in self._kept.items() if time.monotonic() - one.at > LASTS]:
                del self._kept[old]
            found = self._kept.get(word)
        return found if found and secrets.compare_digest(found.session, session) else None
