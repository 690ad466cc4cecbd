"""Another machine's Promptmill, asked through its HTTP API."""

import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from configs.plain_text import plain
from producer.errors import AccessRefused, RemoteRefused, ServerUnreachable, UsageError

TOKEN = "PROMPTMILL_TOKEN"  # noqa: S105 - the name of it
FILE_NAME = "token"
#: Seconds that an answer may take; checking a large file takes a while.
PATIENCE = 300.0
#: Tries of a request that did not come through, and seconds between them.
TRIES, PAUSE = 3, 1.0
#: Statuses that mean that the call should be corrected.
USAGE = (400, 401, 403, 404, 405, 409, 413, 422)
#: Jobs of one page.
PAGE = 1000


class Server:
    """The one at a URL. token: of `promptmill web --new-token` there.

    Raises:
        UsageError: that is no URL of a server.
    """

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r:.200} is no server; write its URL, such as https://gpus.example.org.")
        self.host = parts.hostname
        #: Where the last page of jobs ended; None at the end of all.
        self.next: str | None = None
        is_near = _is_loopback(parts.hostname)
        if token and parts.scheme == "http" and not is_near:
            print("Warning: http:// sends the token for all to read; use https:// or a tunnel.", file=sys.stderr)
        self._client = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(PATIENCE, connect=10),
            # A proxy of the environment is for what is far away.
            trust_env=not is_near,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        given = {name: value for name, value in params.items() if value is not None}
        return self._ask("GET", path, params=given).json()

    def post(self, path: str, *, method: str = "POST", **request: Any) -> Any:
        """Change something. Only what may be asked twice is: see the API's Idempotency-Key."""
        return self._ask(method, path, **request).json()

    def page(self, path: str, **params: Any) -> str:
        given = {name: value for name, value in params.items() if value is not None}
        return self._ask("GET", path, params=given).text

    def jobs(self, limit: int | None, **asked: Any) -> Iterator[dict[str, Any]]:
        """The jobs that a query finds, page by page."""
        while limit is None or limit > 0:
            found = self.get("/jobs", limit=min(limit or PAGE, PAGE), **asked)
            yield from found["jobs"]
            self.next = found["next"]
            if not found["next"]:
                return
            asked["after"] = found["next"]
            limit = limit and limit - len(found["jobs"])

    def fetch(self, job: dict[str, Any], folder: Path) -> Path:
        """The file of a job's image, in a folder of this machine; what is there is not fetched again."""
        suffix = {"png": "png", "jpeg": "jpg", "webp": "webp"}
        if not re.fullmatch("[0-9a-f]{64}", str(job["image_sha256"])):
            raise RemoteRefused(f"{self.host} sent no digest of the image of job {int(job['id'])}.")
        path = folder / f"{int(job['id'])}-{job['image_sha256'][:12]}"
        known = [path.with_suffix(f".{ending}") for ending in suffix.values()]
        if there := next((file for file in known if file.is_file()), None):
            return there
        answer = self._ask("GET", f"/jobs/{int(job['id'])}/image")
        kind = answer.headers.get("content-type", "").removeprefix("image/")
        if kind not in suffix:
            raise RemoteRefused(f"{self.host} sent no picture for job {job['id']}.")
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.part")
        draft.write_bytes(answer.content)
        return draft.replace(path.with_suffix(f".{suffix[kind]}"))

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        for left in reversed(range(TRIES)):
            try:
                answer = self._client.request(method, path, **request)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if left and not isinstance(error, httpx.UnsupportedProtocol):
                    time.sleep(PAUSE)
                    continue
                raise ServerUnreachable(
                    f"{self.host} does not answer: {error}; is `promptmill web` running there?"
                ) from error
            if "x-promptmill" not in answer.headers:
                raise RemoteRefused(f"{self.host} answered {answer.status_code}, and is no `promptmill web`.", 2)
            if not answer.is_success:
                raise _refusal(answer)
            return answer
        raise AssertionError("the last try has returned or raised")


def read_token(home: Path) -> str | None:
    """From the environment, else a file of the home that nobody else can read; never from an argument.

    Raises AccessRefused where others can read it.
    """
    if token := os.environ.get(TOKEN):
        return token
    path = home / FILE_NAME
    try:
        rights = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise AccessRefused(f"{path} cannot be read: {error}.") from error
    if os.name == "posix" and rights & (stat.S_IRWXG | stat.S_IRWXO):
        raise AccessRefused(f"Others can read {path}, which holds a token: chmod 600 {path}.")
    return text or None


def _refusal(answer: httpx.Response) -> RemoteRefused:
    said = answer.json()
    sentence = "\n".join(said.get("problems") or [str(said["detail"])])
    if answer.status_code == 401:
        sentence = f"The server wants a token: set {TOKEN} to one of `promptmill web --new-token NAME` there."
    told = "\n".join(map(plain, sentence.split("\n")))
    return RemoteRefused(told, 2 if answer.status_code in USAGE else 1)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
