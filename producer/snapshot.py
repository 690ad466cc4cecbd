"""What a prompt file asked for when it was last submitted: what its next edit is compared with.

The ledger knows it of a whole file. Where only changed rows were queued the home keeps it, beside the newest batch of
that name: one that came later makes it void.
"""

from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from msgspec import DecodeError, Struct, msgpack
from sqlalchemy import Engine

from db.content_keys import asked_before, newest_batch
from producer.asking import Asked

FOLDER = "snapshots"


class Before(NamedTuple):
    """An image that was asked for."""

    line: int
    key: bytes
    job_id: int | None = None


class Snapshot(Struct, frozen=True):
    """As it is kept."""

    batch: str
    """The uid of the newest batch of the file's name."""
    images: list[tuple[int, bytes]]
    """Line and key."""


def read_before(engine: Engine, home: Path, name: str) -> list[Before]:
    """What the file of that name asked for before, in its order; nothing where it was never submitted."""
    batch = newest_batch(engine, name)
    if batch is None:
        return []
    with suppress(OSError, DecodeError):
        kept = msgpack.decode(_path(engine, home, name).read_bytes(), type=Snapshot)
        if kept.batch == batch.uid:
            return [Before(line, key) for line, key in kept.images]
    return [Before(row.line, row.content_key or b"", row.id) for row in asked_before(engine, batch.id)]


def keep(engine: Engine, home: Path, name: str, asked: Sequence[Asked]) -> None:
    """Remember what a file asks for, of which not all was queued now."""
    batch = newest_batch(engine, name)
    if batch is None or batch.uid is None:
        return
    path = _path(engine, home, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgpack.encode(Snapshot(batch.uid, [(image.line, image.key) for image in asked])))
    fresh.replace(path)


def _path(engine: Engine, home: Path, name: str) -> Path:
    ledger = engine.url.render_as_string(hide_password=True)
    return home / FOLDER / f"{blake2b(f'{ledger} {name}'.encode(), digest_size=16).hexdigest()}.msgpack"
