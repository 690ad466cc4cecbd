"""Prompt files that come by the web: checked like any other, but that they name no paths; recorded, and sent."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from configs.errors import InvalidParameter
from configs.settings import Settings
from db import queries
from db.ledger import Ledger
from producer.asking import asked_images, choose_once, narrow
from producer.errors import DiskTooSmall, QueueUnreachable, RequestRepeated
from producer.outside import refuse_path
from producer.plan import fits_easily, make_plan
from producer.submit import Submission, check, record

#: Endings that say how a file is read.
SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt", ".jsonl", ".ndjson", ".json")
#: Flags that name files; those of the settings are used instead.
PATHS = ("wildcards", "styles", "init_image", "mask_image")


class Queued(NamedTuple):
    """A batch that is recorded."""

    batch: Row[Any]
    #: Jobs that were sent; None where they wait for a queue.
    sent: int | None
    #: Whether an earlier request of the same key had recorded it.
    is_repeated: bool = False
    note: str = ""


def check_upload(content: bytes, filename: str, settings: Settings, **flags: Any) -> Submission:
    """Check a file that somebody has sent; its name is shown and is no path. flags: as of `producer.submit.check`.

    Raises:
        InvalidPromptFile: rows of it are wrong.
        ConfigError: a flag is not what it can be, or names a path.
    """
    for flag, value in flags.items():
        if flag in PATHS and value is not None:
            raise InvalidParameter(f"{flag} names a file of this machine; it is set there, or by the rows' page.")
        if flag == "model" and value is not None:
            refuse_path(flag, value)
    shown = Path(filename.replace("\\", "/")).name[:200] or "prompts"
    suffix = Path(shown).suffix.lower()
    with tempfile.TemporaryDirectory(prefix="promptmill-") as folder:
        file = Path(folder, f"prompts{suffix if suffix in SUFFIXES else ''}")
        file.write_bytes(content)
        named = {**flags, "name": flags.get("name") or shown}
        return check(str(file), settings, **named, outside=True, label=shown)


def write_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as the JSON lines of a prompt file."""
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def drop_repeats(submission: Submission) -> Submission:
    """Of rows that ask for the same, the first alone."""
    return narrow(submission, choose_once(asked_images(submission)))


def enqueue(
    submission: Submission, ledger: Ledger, settings: Settings, *, key: str | None = None, anyway: bool = False
) -> Queued:
    """Record a batch and send it where there is a queue.

    key: what a repeated request has in common with the first, whose batch it is answered with. anyway: even if the
    images do not fit on the disk.

    Raises:
        DiskTooSmall: they do not.
        RequestRepeated: the key was used for something else.
    """
    if key is not None:
        uid = hashlib.sha256(f"{settings.ledger_url}\n{key}".encode()).hexdigest()[:32]
        submission = replace(submission, batch=replace(submission.batch, uid=uid))
        if known := queries.batch_of_uid(ledger.engine, uid):
            return _again(submission, known)
    if not anyway:
        _refuse_overflow(submission, ledger, settings)
    try:
        batch = record(submission, ledger)
    except IntegrityError:
        # Two requests of one key at once.
        if (uid_now := submission.batch.uid) and (known := queries.batch_of_uid(ledger.engine, uid_now)):
            return _again(submission, known)
        raise
    return send(batch, ledger, settings)


def warnings(submission: Submission) -> list[str]:
    """What is not wrong with the rows, and should be known."""
    repeats = submission.repeats.messages() if submission.repeats else ()
    return [*map(str, submission.prompts.warnings.problems), *repeats]


def go_on(batch: Row[Any], ledger: Ledger, settings: Settings) -> Queued:
    """Start jobs of a batch again."""
    ledger.resume_batch(batch.id)
    return send(batch, ledger, settings)


def prioritise(batch: Row[Any], priority: int, ledger: Ledger, settings: Settings) -> Queued:
    """Have a batch made sooner or later. It is sent once more: a message keeps the priority it was sent with."""
    ledger.prioritise_batch(batch.id, priority)
    return send(batch, ledger, settings)


def send(batch: Row[Any], ledger: Ledger, settings: Settings) -> Queued:
    """Send what is queued of a batch, where there is a queue; else it waits, and the note says for what."""
    from producer.queue import Queue, find_url

    url = find_url(settings)
    if url is None:
        return Queued(batch, None, note="Recorded; it is made when `promptmill worker` runs.")
    try:
        return Queued(batch, Queue(url).send_batch(ledger, batch.id))
    except QueueUnreachable as error:
        return Queued(batch, None, note=str(error))


def _again(submission: Submission, known: Row[Any]) -> Queued:
    asked = submission.batch
    same = (known.source_sha256, known.name, known.total) == (asked.source_sha256, asked.name, asked.total)
    if not same or known.submitted_at is None:
        why = "is for another prompt file" if not same else "belongs to a batch that is just being recorded"
        raise RequestRepeated(f"This key {why}; draw a new one for each batch, and repeat it for the same alone.")
    return Queued(known, None, is_repeated=True, note="An earlier request of this key has submitted it.")


def _refuse_overflow(submission: Submission, ledger: Ledger, settings: Settings) -> None:
    if fits_easily(submission, ledger.engine, settings):
        return
    plan = make_plan(submission, ledger.engine, settings, None)
    if not plan.fits:
        raise DiskTooSmall(f"{plan.shortage()}; make room, or ask for it all the same.")
