"""Who may use the pages and the API: a user with a password, and tokens for programs. They are in one file of the home.

Passwords go through scrypt (RFC 7914) with the cost that OWASP gives for 32 MB
(https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). Tokens are 256 random bits, which
need no slow hash; of them only SHA-256 is kept.
"""

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

import msgspec

from producer.errors import AccessRefused

FILE_NAME = "web.json"
#: Of scrypt: memory and time, block size, and repetitions.
COST = (2**15, 8, 3)
SHORTEST_PASSWORD = 10
#: Tokens begin so: scanners for leaked secrets know them by it.
MARK = "promptmill_"


class Password(msgspec.Struct, frozen=True):
    """What is kept of a password."""

    salt: bytes
    digest: bytes
    cost: tuple[int, int, int]

    @classmethod
    def of(cls, text: str) -> "Password":
        salt = secrets.token_bytes(16)
        return cls(salt, _scrypt(text, salt, COST), COST)

    def matches(self, text: str) -> bool:
        return hmac.compare_digest(self.digest, _scrypt(text, self.salt, self.cost))


class Token(msgspec.Struct, frozen=True):
    """What is kept of a token."""

    digest: str
    made_at: float


class Credentials(msgspec.Struct, frozen=True):
    """The user and the tokens; where there are neither, nobody has to say who he is."""

    user: str | None = None
    password: Password | None = None
    tokens: dict[str, Token] = {}

    def __bool__(self) -> bool:
        return self.password is not None or bool(self.tokens)

    def admits(self, user: str, password: str) -> bool:
        """Whether that is the user's password. It takes as long for a wrong name."""
        if self.user is None or self.password is None:
            return False
        named = hmac.compare_digest(self.user.encode(), user.encode("utf-8", "replace"))
        return self.password.matches(password) and named

    def token_name(self, text: str) -> str | None:
        """The name of a token; None where it is none."""
        digest = _digest(text)
        found = [name for name, token in self.tokens.items() if hmac.compare_digest(token.digest, digest)]
        return found[0] if found else None


def read_credentials(home: Path) -> Credentials:
    """Those of the home; none where there is no file. Raises AccessRefused."""
    path = home / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        return Credentials()
    except (OSError, msgspec.DecodeError) as error:
        raise AccessRefused(
            f"{path} cannot be read: {error}; `promptmill web --set-password` after removing it."
        ) from error


def set_password(home: Path, user: str, text: str) -> None:
    """Let one user in by a password, in place of the one before. Raises AccessRefused."""
    if not user.strip():
        raise AccessRefused("A user needs a name.")
    if len(text) < SHORTEST_PASSWORD:
        raise AccessRefused(f"The password is too short: {SHORTEST_PASSWORD} characters are the least.")
    known = read_credentials(home)
    _write(home, msgspec.structs.replace(known, user=user.strip(), password=Password.of(text)))


def new_token(home: Path, name: str) -> str:
    """A token that nobody can read again; one of the same name ends."""
    known, text = read_credentials(home), MARK + secrets.token_urlsafe(32)
    tokens = {**known.tokens, name: Token(_digest(text), time.time())}
    _write(home, msgspec.structs.replace(known, tokens=tokens))
    return text


def drop_token(home: Path, name: str) -> None:
    """Let that token in no longer. Raises AccessRefused."""
    known = read_credentials(home)
    if name not in known.tokens:
        names = ", ".join(sorted(known.tokens)) or "none"
        raise AccessRefused(f"There is no token {name!r}; there are: {names}.")
    _write(home, msgspec.structs.replace(known, tokens={n: t for n, t in known.tokens.items() if n != name}))


def _write(home: Path, credentials: Credentials) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, draft = home / FILE_NAME, home / f".{FILE_NAME}.{secrets.token_hex(4)}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(credentials)))
    draft.replace(path)


def _scrypt(text: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(text.encode("utf-8", "replace"), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
