"""Threads that pictures are made in: few, so that many who look at pictures leave the machine to the workers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

#: Thumbnails, of which a page has many; and sheets and reports, of which each takes seconds and much memory.
SHRINKING = ThreadPoolExecutor(2, "thumbnails")
DRAWING = ThreadPoolExecutor(1, "sheets")


async def in_pool(pool: ThreadPoolExecutor, make: Callable[[], T]) -> T:
    """Wait for what one of its threads makes. What nobody waits for any more is not begun."""
    return await asyncio.wrap_future(pool.submit(make))
