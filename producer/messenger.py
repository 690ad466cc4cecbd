"""Sends a message to an address: ``python -m producer.messenger`` with both on its standard input.

A process of its own, so that a service that hangs can be ended, and nothing of what the library loads is in a fleet.
The address stands in no list of processes. What the service said goes to standard output; exit code 0 says it took it.
"""

import json
import logging
import signal
import subprocess
import sys
from typing import NamedTuple

from configs.plain_text import plain
from configs.redaction import redact_address
from producer.child import PYTHON

#: Seconds a service has.
LIMIT = 30
#: Most characters told of an answer.
LONGEST = 200
MISSING = "Apprise is not installed; `pip install 'promptmill[notify]'` does it."


class Message(NamedTuple):
    """Plain text."""

    title: str
    text: str


class Answer(NamedTuple):
    """Whether a message was taken, and what was said if it was not."""

    taken: bool
    said: str = ""


def deliver(address: str, message: Message, limit: float = LIMIT) -> Answer:
    """Send it, in a process that is killed after ``limit`` seconds."""
    asked = json.dumps([address, *message]).encode()
    try:
        # Its own session: Ctrl-C is for us.
        done = subprocess.run(
            [*PYTHON, "-m", "producer.messenger"],
            input=asked, capture_output=True, timeout=limit, check=False, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Answer(False, f"no answer within {limit:g} seconds")
    said = done.stdout or b"it could not be sent"
    return Answer(done.returncode == 0, plain(redact_address(said.decode(errors="replace").strip(), address))[:LONGEST])


class Sayings(logging.Handler):
    """Keeps what the library says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def send(address: str, message: Message) -> Answer:
    """Send it from this process."""
    try:
        import apprise
    except ImportError:
        return Answer(False, MISSING)
    sayings = Sayings()
    logging.getLogger("apprise").addHandler(sayings)
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Promptmill", async_mode=False))
    if not service.add(address):
        return Answer(False, "Apprise knows no such address; docs/notifications.md has examples")
    # Said to be plain, it is escaped for services that would interpret it.
    taken = service.notify(title=message.title, body=message.text, body_format=apprise.NotifyFormat.TEXT)
    return Answer(bool(taken), "; ".join(sayings.said) or "it was not taken")


def main() -> None:
    """Entry point of the process."""
    if hasattr(signal, "alarm"):
        # Whoever waited may be gone.
        signal.alarm(2 * LIMIT)
    address, title, text = json.load(sys.stdin.buffer)
    answer = send(address, Message(title, text))
    sys.stdout.buffer.write(("" if answer.taken else answer.said).encode())
    sys.stdout.flush()
    sys.exit(0 if answer.taken else 1)


if __name__ == "__main__":
    main()
