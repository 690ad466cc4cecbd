"""Tells those who want to know when a batch ends or stops, from a thread beside the rendering.

Many may look at one ledger: who claims an event tells it (`db.notices`). What a service does not take is tried again
for a day, less and less often; a message goes out at least once, and twice only after a crash in the wrong moment.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType

import click
from sqlalchemy.exc import SQLAlchemyError

from configs.settings import Settings
from db import chronicle, notices, queries
from db.errors import LedgerError
from db.ledger import Ledger
from db.notices import Event
from producer.errors import WorkerKeepsDying
from producer.messenger import LIMIT, MISSING, Message, deliver
from producer.tidings import compose

#: Seconds between two looks at the ledger.
LOOK = 5.0
#: Seconds of a claim; more than all addresses but one may take.
CLAIM = 600.0
#: Seconds to the second try, and at most to a later one; each wait is twice the last.
FIRST_WAIT, LONGEST_WAIT = 10.0, 900.0
#: Seconds after which nothing is tried again, and after which what has ended is no news.
DAY = 86_400.0
#: Seconds without any worker before it is told, and after which what has passed may be told again.
LONELY, HOUR = 600.0, 3600.0
#: Seconds for the last words.
FAREWELL = 15.0
#: Seconds of silence after which a worker counts as gone, at the least.
SILENCE = 60.0


def notifying(settings: Settings, ledger: Ledger) -> "AbstractContextManager[object]":
    """Notices go out while the block is open, if anybody wants them."""
    if not settings.notify:
        return nullcontext()
    if find_spec("apprise") is None:
        click.echo(f"Warning: nobody is notified: {MISSING}", err=True)
        return nullcontext()
    return Notifier(settings, ledger)


@dataclass
class Notice:
    """A message on its way."""

    batch_id: int
    event: Event
    message: Message
    #: Places of the addresses that have not taken it.
    left: list[int]
    #: When our claim ends.
    until: float
    began: float
    #: Seconds from the next try to the one after.
    wait: float
    due: float = 0.0


class Notifier:
    """Looks at the ledger and sends, while the block is open; once more at its end."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings, self.ledger = settings, ledger
        self.addresses = settings.notify or ()
        self._names = settings.notify.names() if settings.notify else []
        self._underway: list[Notice] = []
        self._stop = threading.Event()
        self._stranded = False
        self._lonely_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)

    def __enter__(self) -> "Notifier":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stranded = isinstance(error, WorkerKeepsDying)
        self._stop.set()
        self._thread.join(FAREWELL)

    def _run(self) -> None:
        last = False
        while not last:
            last = self._stop.wait(LOOK)
            try:
                self._take()
                self._advance()
            except (LedgerError, SQLAlchemyError):
                # Rendering says what is wrong with the ledger.
                continue
        for notice in self._underway:
            notices.release(self.ledger, notice.batch_id, notice.event, notice.until)

    def _take(self) -> None:
        """Claim what is to be told."""
        for batch_id, event in self._events():
            if until := notices.claim(self.ledger, batch_id, event, CLAIM):
                if event is Event.ENDED and self._is_old(batch_id):
                    notices.record(self.ledger, batch_id, event, until)
                    continue
                message = compose(self.ledger.engine, self.settings, batch_id, event)
                places = list(range(len(self.addresses)))
                self._underway.append(Notice(batch_id, event, message, places, until, time.monotonic(), FIRST_WAIT))

    def _events(self) -> Iterator[tuple[int, Event]]:
        engine = self.ledger.engine
        found = {Event.ENDED: notices.ended, Event.HELD: notices.held, Event.FAILING: notices.failing}
        for event, find in found.items():
            for batch in find(engine):
                yield batch.id, event
        waiting = queries.waiting_batches(engine)
        if waiting:
            # One message says it for all that wait.
            oldest = waiting[0].id
            for event in self._standstills():
                if notices.is_untold(engine, oldest, event):
                    yield oldest, event

    def _standstills(self) -> Iterator[Event]:
        """Why nothing at all is made."""
        found = {Event.DISK: self._is_full(), Event.WORKERS: self._is_lonely()}
        yield from (event for event, is_so in found.items() if is_so)
        notices.forget(self.ledger, [event for event, is_so in found.items() if not is_so], HOUR)

    def _is_full(self) -> bool:
        root = self.settings.images_root
        existing = next(folder for folder in (root, *root.parents) if folder.exists())
        return shutil.disk_usage(existing).free // 2**20 < self.settings.disk_watermark_mb

    def _is_lonely(self) -> bool:
        if self._stranded:
            return True
        if notices.workers_alive(self.ledger.engine, max(SILENCE, self.settings.lease_seconds)):
            self._lonely_since = None
            return False
        self._lonely_since = self._lonely_since or time.monotonic()
        return time.monotonic() - self._lonely_since > LONELY

    def _is_old(self, batch_id: int) -> bool:
        ended = chronicle.span(self.ledger.engine, batch_id).ended
        return ended is None or ended < time.time() - DAY

    def _advance(self) -> None:
        self._underway = [notice for notice in self._underway if not self._is_done(notice)]

    def _is_done(self, notice: Notice) -> bool:
        """Try it where it is time; True when nothing is left to be done by us."""
        later = notices.extend(self.ledger, notice.batch_id, notice.event, notice.until, CLAIM)
        if later is None:
            return True
        notice.until = later
        if time.monotonic() >= notice.due:
            notice.left = [place for place in notice.left if not self._send(notice, place)]
            notice.due, notice.wait = time.monotonic() + notice.wait, min(2 * notice.wait, LONGEST_WAIT)
        if notice.left and time.monotonic() - notice.began < DAY:
            return False
        notices.record(self.ledger, notice.batch_id, notice.event, notice.until)
        return True

    def _send(self, notice: Notice, place: int) -> bool:
        answer = deliver(self.addresses[place], notice.message, LIMIT)
        if not answer.taken:
            about = f"{notice.event.value} of batch {notice.batch_id}"
            again = f"is tried again in {notice.wait:.0f} s"
            click.echo(f"The notice {about} did not reach {self._names[place]} and {again}: {answer.said}", err=True)
        return answer.taken
