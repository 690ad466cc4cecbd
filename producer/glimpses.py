"""What the workers show of jobs in the making. Without a queue, or with one that is out of reach, they show nothing."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from configs.celeryconfig import create_app
from configs.settings import Settings
from db.glimpses import Glimpse, ask, connected
from producer.queue import find_url

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)


def look(settings: Settings, ids: Sequence[int], *, previews: bool) -> dict[int, Glimpse]:
    """What is known of jobs; the first look asks for it, and a later one finds it."""
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    if not (url := find_url(settings)):
        return {}
    try:
        with connected(_app(url)) as channel:
            return ask(channel, ids, previews=previews)
    except (OperationalError, RedisError, OSError) as error:
        log.info("No steps can be shown: %s", error)
        return {}


@lru_cache(maxsize=4)
def _app(url: str) -> "Celery":
    return create_app(url)
