"""Glimpses of images in the making, for those who wait for them: kept in Redis for seconds, and never of importance.

Who wants to see a job's steps says so by a key that expires; the worker looks for such keys, and answers by another.
What nobody looks at costs nothing but the question.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import ValidationError, json

if TYPE_CHECKING:
    from celery import Celery

#: Seconds that a wish and an answer last.
LASTS = 5
#: Only jobs that are at least this urgent are looked at: somebody sits before them.
INTERACTIVE = 1


class Glimpse(NamedTuple):
    """Steps taken, steps in all, and the picture so far as WebP in base64; empty without one."""

    step: int
    steps: int
    preview: str = ""


@contextmanager
def connected(app: "Celery") -> Iterator[Any]:
    """A client of the queue's Redis.

    Raises:
        kombu.exceptions.OperationalError, redis.exceptions.RedisError: it cannot be reached.
    """
    with app.connection_for_write() as connection:
        yield connection.default_channel


def ask(channel: Any, ids: Sequence[int], *, previews: bool) -> dict[int, Glimpse]:
    """Wish to see jobs, and read what is known of them by now."""
    for job_id in ids:
        channel.client.set(f"wish:{job_id}", "preview" if previews else "steps", ex=LASTS)
    found = channel.client.mget([_key(channel, "glimpse", job_id) for job_id in ids])
    return {job_id: glimpse for job_id, raw in zip(ids, found, strict=True) if raw and (glimpse := _read(raw))}


def wishes(channel: Any, ids: Sequence[int]) -> dict[int, bool]:
    """Which of the jobs somebody looks at, and whether at previews too."""
    found = channel.client.mget([_key(channel, "wish", job_id) for job_id in ids])
    return {job_id: raw == b"preview" for job_id, raw in zip(ids, found, strict=True) if raw}


def answer(channel: Any, job_id: int, glimpse: Glimpse) -> None:
    channel.client.set(f"glimpse:{job_id}", json.encode(glimpse), ex=LASTS)


def _key(channel: Any, kind: str, job_id: int) -> str:
    # kombu writes its prefix before the keys of the commands it knows: of SET, and not of MGET.
    return f"{channel.global_keyprefix}{kind}:{job_id}"


def _read(raw: bytes) -> Glimpse | None:
    try:
        return json.decode(raw, type=Glimpse)
    except ValidationError:
        return None
