"""The command line of one machine, asking the server of another."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import Result

from producer.web import credentials
from tests.web.conftest import Site

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    return credentials.new_token(site.settings.home, "laptop")


@pytest.fixture
def ask(site: Site, token: str, promptmill: Call, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Calls the command with the server's URL and token, in a home that has nothing."""
    monkeypatch.setenv("PROMPTMILL_SERVER", site.url)
    monkeypatch.setenv("PROMPTMILL_TOKEN", token)
    return promptmill


def write(text: str) -> str:
    Path("prompts.csv").write_text(text, encoding="utf-8")
    return "prompts.csv"


def test_a_file_is_submitted_to_the_other_machine(ask: Call, home: Path) -> None:
    done = ask(
        "submit", write("prompt,steps\na red circle,4\n"), "--num-images", 2, "--sweep", "scale=5,7.5", "--name", "far"
    )
    assert done.exit_code == 0, done.output
    assert "4 images of far, on 127.0.0.1." in done.output
    assert not list(home.glob("ledger*"))
    listed = ask("history", "batch:far", "scale:5", "--json")
    assert len(listed.stdout.splitlines()) == 2


def test_what_is_wrong_with_a_file_is_told_as_at_home(ask: Call) -> None:
    done = ask("submit", write("prompt,steps\nfine,4\nnot fine,0\n"))
    assert done.exit_code == 2
    assert "prompts.csv:3: steps: " in done.output


def test_a_plan_is_made_there(ask: Call) -> None:
    done = ask("submit", write("prompt\ncat\n"), "--plan")
    assert (done.exit_code, done.stdout.splitlines()[0][:16]) == (0, "1 rows, 1 images")


def test_a_batch_is_paused_resumed_prioritised_cancelled_and_tried_again(ask: Call) -> None:
    assert "is paused" in ask("pause", "waiting.csv").output
    assert "is waiting" in ask("resume", "3").output
    assert "has priority 2" in ask("prioritise", "3", "2").output
    assert "5 jobs" in ask("cancel", "3").output
    assert "5 jobs" in ask("retry", "3").output
    assert "waiting.csv" in ask("status").output
    assert "queued" in ask("status", "waiting.csv").output


def test_images_are_fetched_once(ask: Call, home: Path) -> None:
    done = ask("history", "--batch", "circles.csv", "--paths", "--limit", 3)
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.read_bytes()[:4] for path in paths] == [b"\x89PNG"] * 3
    assert all(path.is_relative_to(home / "fetched") for path in paths)
    before = [path.stat().st_mtime_ns for path in paths]
    ask("history", "--batch", "circles.csv", "--paths", "--limit", 3)
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_a_report_is_written_here(ask: Call) -> None:
    done = ask("report", "circles.csv", "-o", "report.html")
    assert done.exit_code == 0, done.output
    assert "circles.csv" in Path("report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [("render", "prompts.csv"), ("db", "check"), ("history", "stats", "--by", "day")])
def test_what_cannot_go_there_says_so(ask: Call, words: tuple[str, ...]) -> None:
    done = ask(*words)
    assert (done.exit_code, "works on this machine alone" in done.output) == (2, True)


def test_flags_that_speak_of_files_here_are_refused(ask: Call) -> None:
    done = ask("submit", write("prompt\ncat\n"), "--changed")
    assert (done.exit_code, "--changed speaks of this machine" in done.output) == (2, True)


def test_without_its_token_nothing_is_told(ask: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTMILL_TOKEN", "promptmill_wrong")
    done = ask("status")
    assert (done.exit_code, "wants a token" in done.output) == (2, True)


def test_a_token_file_that_others_can_read_is_refused(
    ask: Call, home: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.delenv("PROMPTMILL_TOKEN")
    home.mkdir(exist_ok=True)
    (home / "token").write_text(token)
    (home / "token").chmod(0o644)
    assert "chmod 600" in ask("status").output
    (home / "token").chmod(0o600)
    assert ask("status").exit_code == 0


def test_a_server_that_does_not_answer_is_one_sentence(promptmill: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.remote.PAUSE", 0)
    done = promptmill("--server", "http://127.0.0.1:1", "status")
    assert done.exit_code == 1
    assert "does not answer" in done.output
    assert promptmill("--server", "gpus", "status").exit_code == 2


def test_a_history_goes_on_where_its_page_ended(ask: Call) -> None:
    first = ask("history", "circle", "--limit", 3)
    cursor = first.stderr.split("--after ")[1].strip()
    second = ask("history", "circle", "--limit", 3, "--after", cursor)
    assert not set(first.stdout.splitlines()[1:]) & set(second.stdout.splitlines()[1:])


class Stranger(BaseHTTPRequestHandler):
    """A server of another kind."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    def log_message(self, *_: object) -> None:
        return None


def test_a_server_of_another_kind_is_told_so(promptmill: Call) -> None:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        done = promptmill("--server", f"http://127.0.0.1:{server.server_port}", "status")
    assert (done.exit_code, "is no `promptmill web`" in done.output) == (2, True)
