"""Who is let in, and what a browser on another site can do: nothing."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, routing
from fastapi.testclient import TestClient
from redis.exceptions import RedisError

from configs.settings import Settings
from db.ledger import Ledger
from producer.web import credentials, guard
from producer.web.access import Access
from producer.web.app import create_app
from producer.web.attempts import BY_ADDRESS, MOST, Attempts
from producer.web.credentials import Credentials, Password, read_credentials
from producer.web.intake import check_upload
from tests.web.conftest import Site

USER, PASSWORD = "promptmill", "correct horse battery"
PAGE = {"Accept": "text/html"}
#: What anybody gets: the way in, and what it looks like.
OPEN = {"/log-in", "/static"}


def test_what_is_kept_of_secrets_is_for_the_owner(tmp_path: Path) -> None:
    credentials.set_password(tmp_path, USER, PASSWORD)
    path = tmp_path / "web.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    kept = read_credentials(tmp_path).password
    assert kept
    assert kept.matches(PASSWORD)
    assert kept.cost[0] * kept.cost[1] * 128 >= 32 * 2**20, "bytes that each guess takes"


@pytest.fixture(scope="module")
def guarded_home(web_home: Path) -> Iterator[Path]:
    """Where a password is kept, which costs little to check."""
    dear, credentials.COST = credentials.COST, (2**4, 1, 1)
    credentials.set_password(web_home / "guarded", USER, PASSWORD)
    yield web_home / "guarded"
    credentials.COST = dear


@pytest.fixture(scope="module")
def public(web_settings: Settings, web_ledger: Ledger, guarded_home: Path) -> FastAPI:
    """The application as it is on a public address."""
    return create_app(web_settings, web_ledger, Access(guarded_home, hosts=None, open_to_all=False))


@pytest.fixture
def stranger(public: FastAPI) -> Iterator[TestClient]:
    public.state.access.attempts = Attempts()
    with TestClient(public, base_url="https://promptmill.example", follow_redirects=False) as client:
        yield client


@pytest.fixture
def user(stranger: TestClient) -> TestClient:
    """Somebody who has logged in."""
    assert log_in(stranger, PASSWORD).status_code == 303
    return stranger


def form_token(client: TestClient, path: str = "/log-in") -> str:
    found = re.search(r'name="csrf-token" content="([0-9a-f]+)"', client.get(path, headers=PAGE).text)
    assert found
    return found[1]


def log_in(client: TestClient, password: str, **more: Any) -> Any:
    asked = {"user": USER, "password": password, "csrf_token": form_token(client), **more}
    return client.post("/log-in", data=asked, headers=PAGE)


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every method and path that the application answers, however its routers are nested."""
    found = routing.iter_route_contexts(app.routes) if hasattr(routing, "iter_route_contexts") else app.routes
    return {(method, str(route.path)) for route in found for method in getattr(route, "methods", None) or {"GET"}}


def test_every_route_refuses_who_has_not_logged_in(public: FastAPI, stranger: TestClient) -> None:
    tried = 0
    for method, path in routes(public):
        answer = stranger.request(method, re.sub(r"\{[^}]*\}", "1", path), headers=PAGE)
        if path in OPEN:
            continue
        tried += 1
        led = answer.status_code == 303 and answer.headers["location"].startswith("/log-in?next=")
        assert led or answer.status_code == 401, (method, path, answer.status_code)
    described = {path for path, methods in public.openapi()["paths"].items() for _ in methods}
    assert tried > len(described) > 10
    assert {"/queue", "/history", "/api/v1/jobs/{job_id}/image"} <= {path for _, path in routes(public)}


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v1/nothing", "/static/../queue", "/log-in/../queue", "/%2e%2e/queue"]
)
def test_what_is_not_there_is_no_way_around(stranger: TestClient, path: str) -> None:
    assert stranger.get(path).status_code in (401, 404)
    assert "batches" not in stranger.get(path).text


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fweb.json", "/static//etc/passwd"]
)
def test_no_path_leads_out_of_the_static_files(user: TestClient, path: str) -> None:
    assert user.get(path).status_code == 404


def test_a_user_logs_in_and_out(stranger: TestClient) -> None:
    answer = log_in(stranger, PASSWORD, next="/queue")
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Secure", "Max-Age="))
    assert stranger.get("/queue", headers=PAGE).status_code == 200
    kept = dict(stranger.cookies)
    answer = stranger.post("/log-out", data={"csrf_token": form_token(stranger, "/queue")}, headers=PAGE)
    assert answer.headers["location"] == "/log-in"
    stranger.cookies.update(kept)
    assert stranger.get("/queue", headers=PAGE).status_code == 303, "a cookie that was kept is worth nothing"


@pytest.mark.parametrize("link", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "/a\tb"])
def test_logging_in_leads_nowhere_else(stranger: TestClient, link: str) -> None:
    assert log_in(stranger, PASSWORD, next=link).headers["location"] == "/"


def test_a_cookie_that_was_changed_is_none(user: TestClient) -> None:
    (name, value), *_ = user.cookies.items()
    user.cookies.clear()
    for wrong in (value[:-1] + ("0" if value[-1] != "0" else "1"), "A" + value, value.partition(".")[0], ".", "%C3"):
        answer = user.get("/queue", headers={**PAGE, "Cookie": f"{name}={wrong}"})
        assert answer.status_code == 303


def test_a_new_password_ends_all_sessions(user: TestClient, guarded_home: Path) -> None:
    credentials.set_password(guarded_home, USER, "another one entirely")
    assert user.get("/queue", headers=PAGE).status_code == 303
    credentials.set_password(guarded_home, USER, PASSWORD)


def test_guessing_is_slowed_down(stranger: TestClient) -> None:
    token = form_token(stranger)
    tries = [
        stranger.post("/log-in", data={"user": "x", "password": "guess", "csrf_token": token}, headers=PAGE).status_code
        for _ in range(BY_ADDRESS + 1)
    ]
    assert tries == [401] * BY_ADDRESS + [429]
    assert log_in(stranger, PASSWORD).status_code == 429, "nor is the right one looked at"


def test_many_who_guess_fill_no_memory() -> None:
    attempts = Attempts()
    for number in range(MOST + 500):
        attempts.begin(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "")
    assert len(attempts._failed) <= MOST
    assert attempts.begin("192.0.2.1", "") > 0, "one user's tries count together, wherever they come from"


def test_changes_need_the_forms_token_and_this_site(user: TestClient) -> None:
    token = form_token(user, "/queue")
    for headers, sent in (
        ({}, {}),
        ({}, {"csrf_token": "0" * 64}),
        ({"Origin": "https://evil.example"}, {"csrf_token": token}),
        ({"Origin": "null"}, {"csrf_token": token}),
        ({"Sec-Fetch-Site": "cross-site"}, {"csrf_token": token}),
        ({"Sec-Fetch-Site": "same-site"}, {"csrf_token": token}),
    ):
        assert user.post("/queue/3/pause", data=sent, headers=headers).status_code == 403
        assert user.post("/api/v1/batches/3/pause", data=sent, headers=headers).status_code == 403
    good = {"Origin": "https://promptmill.example", "Sec-Fetch-Site": "same-origin"}
    assert user.post("/queue/3/pause", data={"csrf_token": token}, headers=good).status_code == 303
    assert user.post("/api/v1/batches/3/resume", headers={**good, "X-CSRF-Token": token}).status_code == 200


def test_a_page_of_another_site_cannot_use_an_open_server(client: TestClient) -> None:
    rows = {"rows": [{"prompt": "x"}]}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Referer": "https://evil.example"},
    ):
        assert client.post("/api/v1/batches", json=rows, headers=headers).status_code == 403
    assert client.post("/queue/3/pause", headers=PAGE).status_code == 403


def test_a_page_of_another_site_gets_no_part_and_no_cookie(client: TestClient) -> None:
    for mode in ("no-cors", "cors", "websocket"):
        asked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
        assert client.get("/api/v1/jobs/1/image", headers=asked).status_code == 403
    asked = {**PAGE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    for path, link in (
        ("/queue?a=1&b=2", "/queue?a=1&amp;b=2"),
        ("//evil.example/x", "/"),
        ('/"><script>', "/%22%3E%3Cscript%3E"),
    ):
        answer = client.get(f"http://testserver{path}", headers=asked)
        assert f'url={link}"' in answer.text
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "localhost@evil"])
def test_a_name_that_was_bound_to_this_machine_is_not_answered(client: TestClient, host: str) -> None:
    assert client.get("/queue", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1", "[::1]:7860", "LOCALHOST"])
def test_this_machines_own_names_are_answered(web_settings: Settings, web_ledger: Ledger, host: str) -> None:
    app = create_app(web_settings, web_ledger, Access(web_settings.home))
    with TestClient(app) as client:
        assert client.get("/log-in", headers={"Host": host}).status_code == 200


def test_tokens_are_let_in_by_their_hash_alone(stranger: TestClient, guarded_home: Path) -> None:
    token = credentials.new_token(guarded_home, "laptop")
    assert token not in (guarded_home / "web.json").read_text()
    bearer = {"Authorization": f"Bearer {token}"}
    assert stranger.get("/api/v1/batches", headers=bearer).status_code == 200
    assert stranger.post("/api/v1/batches/3/pause", headers=bearer).status_code == 200
    assert stranger.get("/api/v1/batches", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    credentials.drop_token(guarded_home, "laptop")
    assert stranger.get("/api/v1/batches", headers=bearer).status_code == 401


def test_a_wrong_name_costs_as_much_as_a_wrong_password(guarded_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests: list[str] = []
    assert guarded_home
    known = Credentials(user="a", password=Password.of("b"))
    scrypt = credentials._scrypt
    monkeypatch.setattr(credentials, "_scrypt", lambda text, *rest: digests.append(text) or scrypt(text, *rest))
    assert [known.admits("a", "b"), known.admits("x", "b"), known.admits("a", "x")] == [True, False, False]
    assert digests == ["b", "b", "x"]


@pytest.mark.parametrize("path", ["/queue", "/log-in", "/api/v1/batches", "/static/promptmill.css", "/nothing"])
def test_every_answer_tells_browsers_what_they_may(user: TestClient, path: str) -> None:
    headers = user.get(path, headers=PAGE).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"].startswith("private")


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ZeroDivisionError("secret"), 500, "log says what"),
        (RedisError("no memory"), 503, "The queue failed: no memory."),
    ],
)
def test_what_nobody_foresaw_is_told_without_its_details(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, told: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("db.queries.find_job", fail)
    answer = client.get("/api/v1/jobs/1")
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (status, "nosniff")
    assert told in answer.json()["detail"]
    assert "secret" not in answer.text


def test_too_much_is_refused_while_it_is_read(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_BYTES", 1000)
    monkeypatch.setattr(guard, "MOST_JSON", 1000)
    file = {"file": ("big.txt", b"cat\n" * 1000, "text/plain")}
    assert client.post("/api/v1/batches/file", files=file).status_code == 413

    headers = {"Content-Type": "application/json"}
    assert client.post("/api/v1/batches", content=iter([b" " * 500] * 10), headers=headers).status_code == 413


def test_no_more_is_read_than_is_allowed() -> None:
    read: list[bytes] = []

    async def receive() -> dict[str, Any]:
        read.append(b" " * 500)
        return {"type": "http.request", "body": read[-1], "more_body": True}

    async def read_all() -> None:
        limited = guard.bounded(receive, 1000)
        while True:
            await limited()

    with pytest.raises(HTTPException):
        asyncio.run(read_all())
    assert len(read) == 3


def test_a_file_has_no_path_of_its_own(web_settings: Settings) -> None:
    for name in ("../../../etc/cron.d/x.csv", "C:\\Windows\\x.csv", "x\0.csv", "", ".."):
        checked = check_upload(b"prompt\ncat\n", name, web_settings)
        assert "/" not in checked.batch.name
        assert "\\" not in checked.batch.name


def test_the_server_is_not_opened_to_strangers(home: Path, promptmill: Any) -> None:
    done = promptmill("web", "--host", "0.0.0.0")
    assert (done.exit_code, "--set-password" in done.output) == (2, True)
    assert promptmill("web", "--name", "img.example").exit_code == 2
    done = promptmill("web", "--set-password", text="short\n")
    assert (done.exit_code, "too short" in done.output) == (2, True)
    assert not (home / "web.json").exists()


def test_images_are_served_from_their_folder_alone(site: Site, client: TestClient) -> None:
    from sqlalchemy import update

    from db.models import IMAGES, Image

    (site.settings.home / "outside.png").write_bytes(b"\x89PNG secret")
    with site.ledger.engine.begin() as connection:
        connection.execute(update(IMAGES).where(Image.job_id == 1).values(path="../outside.png"))
        connection.execute(update(IMAGES).where(Image.job_id == 2).values(path="/etc/passwd"))
    headers = {"Host": "localhost"}
    for path in (
        "/api/v1/jobs/1/image",
        "/api/v1/jobs/2/image",
        "/api/v1/jobs/1/metadata",
        "/image/1/file",
        "/image/2/file",
    ):
        assert client.get(path, headers=headers).status_code in (401, 404)
