"""Passwords and tokens are shown nowhere: not in messages, logs, the ledger, nor in the list of processes."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import Result

from configs.redaction import redact
from configs.settings import read_settings
from db import queries
from db.ledger import Ledger
from tests.db.conftest import batch, ledger  # noqa: F401 - fixtures
from worker.log_lines import LogLines

SECRET = "hunter2hunter2hunter2"
Call = Callable[..., Result]
NOWHERE = f"redis://:{SECRET}@127.0.0.1:1"
LEAKS = [
    f"redis://:{SECRET}@host:6379/0", f"rediss://user:{SECRET}@host", f"sentinel://:{SECRET}@a;sentinel://:{SECRET}@b",
    f"postgresql+psycopg://me:{SECRET}@db/x?sslmode=require", f"host=db password={SECRET} user=me",
    f"postgresql://db/x?user=me&password={SECRET}&x=1", f"sslpassword={SECRET}", f"401 for token hf_{SECRET}",
    f"Cannot connect to redis://:{SECRET}/with/slashes@host: no\nand redis://:{SECRET}@b",
]  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_a_secret_is_taken_out_of_text(leak: str) -> None:
    assert SECRET not in redact(leak)
    assert "***" in redact(leak)


@pytest.mark.parametrize("text", ["http://host:80/a b", "a@b.c", "12:30 @ noon", "a cat, 4k, password on a wall"])
def test_text_without_secrets_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("words", [("doctor",), ("submit", "-"), ("fsck",), ("resume",)], ids=" ".join)
def test_no_command_shows_the_password_of_the_queue(
    promptmill: Call, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    promptmill("submit", "-", text="a cat\n")
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", NOWHERE)
    monkeypatch.setattr("producer.doctor.check_device", lambda: iter(()))
    result = promptmill(*words, text="a cat\n")
    assert SECRET not in result.output + repr(result.exception)
    assert "redis://:***@127.0.0.1:1" in result.output


@pytest.mark.parametrize("words", [("doctor",), ("status",)], ids=" ".join)
@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+nothing"])
def test_no_command_shows_the_password_of_the_ledger(
    promptmill: Call, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], scheme: str
) -> None:
    monkeypatch.setenv("PROMPTMILL_DATABASE_URL", f"{scheme}://me:{SECRET}@127.0.0.1:1/x")
    monkeypatch.setattr("producer.doctor.check_device", lambda: iter(()))
    result = promptmill(*words)
    assert result.exit_code == 1
    assert SECRET not in result.output + repr(result.exception)


def test_a_wrong_setting_is_named_and_its_value_is_not(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="A setting is wrong") as caught:
        read_settings({"PROMPTMILL_LEASE_SECONDS": SECRET, "PROMPTMILL_BROKER_URL": NOWHERE}, tmp_path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("leak", LEAKS)
def test_the_ledger_keeps_no_secret_of_a_traceback(ledger: Ledger, batch: Callable[..., list[int]], leak: str) -> None:  # noqa: F811
    failed, tried = ledger.start_jobs(batch({}, {}), "w", 15)
    ledger.fail_job(failed, "unexpected", f"Traceback: {leak}")
    ledger.retry_job(tried, "unexpected", f"Traceback: {leak}", 3)
    for claim in (failed, tried):
        assert SECRET not in queries.find_job(ledger.engine, claim.job_id).message


def test_the_log_keeps_no_secret_and_no_forged_line() -> None:
    try:
        raise OSError(f"{NOWHERE}\n2026-01-01 INFO forged \x1b[2J\u202e")
    except OSError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "for %s", (f"{NOWHERE}\nforged",), sys.exc_info())
    first, *rest = LogLines("%(message)s").format(record).split("\n")
    assert (SECRET in first, "\x1b" in "".join(rest), "\u202e" in "".join(rest)) == (False, False, False)
    assert not any(SECRET in line or not line.startswith("    ") for line in rest)


@pytest.mark.slow
def test_the_list_of_processes_shows_no_password(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the log of a worker that waits for its queue."""
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", NOWHERE)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    log, seen = home.parent / "worker.log", []
    with log.open("wb") as written:
        worker = subprocess.Popen([sys.executable, "-m", "producer", "worker"], stderr=written, stdout=written)
    try:
        deadline = time.monotonic() + 90
        while "annot connect" not in log.read_text() and time.monotonic() < deadline:
            seen += [line for line in map(argv, [worker.pid, *children(worker.pid)]) if line not in seen]
            time.sleep(0.2)
    finally:
        stop(worker)
    assert "annot connect" in log.read_text()
    assert len(seen) >= 2
    assert SECRET not in log.read_text() + str(seen)


def children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def argv(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return []


def stop(process: "subprocess.Popen[bytes]") -> None:
    left = [psutil.Process(pid) for pid in children(process.pid)]
    process.terminate()
    for child in left:
        child.kill()
    process.kill()
    process.wait()
