"""Tiles: a job as a small picture with what is known of it."""

from typing import Any, NamedTuple

from sqlalchemy import Row

from configs.plain_text import plain
from producer.thumbnails import thumbnail_name

#: Characters of a prompt that are read out for a picture.
LONGEST_ALT = 300


class Tile(NamedTuple):
    """A job, the link of its thumbnail, empty where it has no image, and the words for who does not see it."""

    job: Row[Any]
    thumbnail: str
    alt: str


def tile_of(job: Row[Any]) -> Tile:
    return Tile(job, thumbnail_link(job), plain(job.prompt)[:LONGEST_ALT] or f"Job {job.id}")


def thumbnail_link(job: Row[Any]) -> str:
    return f"/thumbnail/{job.id}/{thumbnail_name(job)}.webp" if job.image_path else ""
