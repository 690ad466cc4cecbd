"""Notices, sent to a real server on this host by real processes of the messenger."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from configs.addresses import Addresses
from configs.settings import Settings, get_settings
from db import notices
from db.ledger import Ledger, NewBatch
from db.notices import Event
from producer import notifier
from producer.errors import WorkerKeepsDying
from producer.messenger import Message, deliver
from producer.notifier import Notifier
from producer.tidings import compose
from tests.db.conftest import job

SECRET = "T0psecretT0psecret"
HOSTILE = "@everyone <b>x</b> [a](http://evil) `rm` \x1b[2J*.csv"


class Receiver(ThreadingHTTPServer):
    """Takes messages; first answers with each of ``answers``, and hangs where that is 0."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reception)
        self.answers: list[int] = []
        self.got: list[dict[str, Any]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/{SECRET}"


class Reception(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if answer == 0:
            self.server.released.wait(20)
        self.server.got += [body] if answer == 200 else []
        with suppress(OSError):
            self.send_response(answer or 500)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "LOOK", 0.05)
    monkeypatch.setattr(notifier, "FIRST_WAIT", 0.1)


@pytest.fixture
def settings(home: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Settings:  # noqa: ARG001 - its place
    monkeypatch.setenv("PROMPTMILL_NOTIFY", receiver.url)
    get_settings.cache_clear()
    return get_settings()


def submit(ledger: Ledger, jobs: int = 2, name: str = "cats.csv") -> list[int]:
    new = NewBatch(name=name, slug="cats", source_sha256="0" * 64, image_format="png", total=jobs)
    batch_id = ledger.create_batch(new)
    ledger.add_jobs([job(batch_id, prompt="a secret wish") for _ in range(jobs)])
    ledger.open_batch(batch_id)
    return list(range(1, jobs + 1))


def end(ledger: Ledger, **batch: Any) -> None:
    for claim in ledger.start_jobs(submit(ledger, **batch), "w", 15):
        ledger.fail_job(claim, "invalid", "no")


def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not met() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert met()


def test_of_many_parents_one_tells_that_a_batch_has_ended(
    settings: Settings, home_ledger: Ledger, receiver: Receiver
) -> None:
    end(home_ledger)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Notifier(settings, home_ledger))
        until(lambda: receiver.got)
    assert [got["title"] for got in receiver.got] == ["Promptmill: batch 1 (cats.csv) is finished, with 2 failed"]
    assert "promptmill retry 1" in receiver.got[0]["message"]


def test_what_a_service_refuses_is_tried_again_and_no_secret_is_told(
    settings: Settings, home_ledger: Ledger, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = [500]
    end(home_ledger)
    with Notifier(settings, home_ledger):
        until(lambda: receiver.got)
    assert len(receiver.got) == 1
    said = capsys.readouterr().err
    assert "address 1 (json) and is tried again" in said
    assert SECRET not in said


def test_a_service_that_hangs_keeps_nobody_and_the_next_parent_tells_it(
    settings: Settings, home_ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "FAREWELL", 0.2)
    receiver.answers = [0]
    end(home_ledger)
    with Notifier(settings, home_ledger) as parent:
        until(lambda: not receiver.answers)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    parent._thread.join()
    with Notifier(settings, home_ledger):
        until(lambda: receiver.got)
    assert len(receiver.got) == 1


def test_a_messenger_that_takes_too_long_is_ended() -> None:
    assert deliver(f"json://h/{SECRET}", Message("a", "b"), 0.01) == (False, "no answer within 0.01 seconds")


def test_a_fleet_that_is_given_up_is_told_of(settings: Settings, home_ledger: Ledger, receiver: Receiver) -> None:
    submit(home_ledger)
    with pytest.raises(WorkerKeepsDying), Notifier(settings, home_ledger):
        raise WorkerKeepsDying("no")
    assert [got["title"] for got in receiver.got] == ["Promptmill: batch 1 (cats.csv) stands still: no worker is alive"]


def test_a_full_disk_is_told_of_once(
    settings: Settings, home_ledger: Ledger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(home_ledger)
    monkeypatch.setattr(Notifier, "_is_full", lambda _: True)
    for _ in range(2):
        with Notifier(settings, home_ledger):
            pass
    assert [got["title"] for got in receiver.got] == ["Promptmill: batch 1 (cats.csv) waits: the images' disk is full"]


def test_what_ended_long_ago_is_no_news(settings: Settings, home_ledger: Ledger, receiver: Receiver) -> None:
    end(home_ledger)
    with home_ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE job SET finished_at = 1")
    with Notifier(settings, home_ledger):
        pass
    assert (receiver.got, notices.ended(home_ledger.engine)) == ([], [])


def test_a_message_holds_no_prompt_and_nothing_that_could_be_markup(settings: Settings, home_ledger: Ledger) -> None:
    end(home_ledger, name=HOSTILE)
    message = compose(home_ledger.engine, settings, 1, Event.ENDED)
    assert "secret wish" not in message.text
    assert not set("@<>[]`*\x1b") & set(message.title)


@pytest.mark.parametrize("event", [event for event in Event if event is not Event.ENDED])
def test_a_stop_says_how_to_go_on(settings: Settings, home_ledger: Ledger, event: Event) -> None:
    submit(home_ledger)
    assert "promptmill resume 1" in compose(home_ledger.engine, settings, 1, event).text


def test_a_test_message_says_what_each_address_answered(
    promptmill: Callable[..., Result], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [200, 500]
    monkeypatch.setenv("PROMPTMILL_NOTIFY", f"{receiver.url} {receiver.url} nowhere://{SECRET}")
    result = promptmill("notify", "--test")
    assert result.exit_code == 1
    first, second, third = result.stdout.splitlines()
    assert first == "address 1 (json): took it"
    assert "500" in second
    assert "knows no such address" in third
    assert SECRET not in result.output


def test_without_an_address_it_says_what_to_do(promptmill: Callable[..., Result]) -> None:
    result = promptmill("notify")
    assert (result.exit_code, "PROMPTMILL_NOTIFY" in result.output) == (2, True)


@pytest.mark.parametrize("words", [("doctor",), ("notify",), ("status",)], ids=" ".join)
def test_no_command_shows_an_address(
    promptmill: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("producer.doctor.check_device", lambda: iter(()))
    for wrong in (f"json://{SECRET}", f"json://h {SECRET}"):
        monkeypatch.setenv("PROMPTMILL_NOTIFY", wrong)
        assert SECRET not in promptmill(*words).output


def test_settings_show_no_address(settings: Settings) -> None:
    assert SECRET not in repr(settings)
    assert repr(Addresses.read([f"json://{SECRET}"])) == "<1 addresses>"


def test_an_address_nobody_listens_at_is_an_answer() -> None:
    answer = deliver(f"json://127.0.0.1:1/{SECRET}", Message("a", "b"))
    assert not answer.taken
    assert SECRET not in answer.said
