"""Reads which jobs the queue's messages speak of, without taking any."""

import base64
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from msgspec import json

from configs.celeryconfig import QUEUE

if TYPE_CHECKING:
    from celery import Celery

#: Messages of one round trip to Redis.
PAGE = 1000


def waiting_ids(app: "Celery", taken_since: float | None = None) -> Iterator[list[int]]:
    """The job ids of every message: of those that wait, then of those that a worker has taken and not acknowledged.

    taken_since: leave out those that were taken before then. A message that moves meanwhile may be missed, or be met
    twice; what is no message of ours is passed over.

    Raises:
        kombu.exceptions.OperationalError, redis.exceptions.RedisError: the queue cannot be reached.
    """
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        taken = _taken(channel) if taken_since is None else _taken_since(channel, taken_since)
        for raw in chain(_listed(channel), taken):
            yield _ids(raw)


def _listed(channel: Any) -> Iterator[bytes]:
    for priority in channel.priority_steps:
        # kombu writes its prefix before the keys of the commands it knows; this is none of them.
        key = f"{channel.global_keyprefix}{channel._q_for_pri(QUEUE, priority)}"
        start = 0
        while page := channel.client.lrange(key, start, start + PAGE - 1):
            yield from page
            start += PAGE


def _taken(channel: Any) -> Iterator[bytes]:
    key = f"{channel.global_keyprefix}{channel.unacked_key}"
    for _, raw in channel.client.hscan_iter(key, count=PAGE):
        yield raw


def _taken_since(channel: Any, moment: float) -> Iterator[bytes]:
    """Messages taken but not acknowledged go by their tags, ordered by the time when they were taken."""
    tags = channel.client.zrangebyscore(f"{channel.global_keyprefix}{channel.unacked_index_key}", moment, "+inf")
    for tag in tags:
        if raw := channel.client.hget(channel.unacked_key, tag):
            yield raw


def _ids(raw: bytes) -> list[int]:
    try:
        message = json.decode(raw)
        # A taken one stands in a list, with where it came from.
        body = json.decode(base64.b64decode((message[0] if isinstance(message, list) else message)["body"]))
        return [number for number in body[0][0] if isinstance(number, int)]
    except (ValueError, LookupError, TypeError):
        return []
