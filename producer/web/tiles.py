"""Tiles: a job as a small picture with what is known of it."""

from typing import Any, NamedTuple

from sqlalchemy import Row

from configs.plain_text import plain
from producer.thumbnails import thumbnail_name

#: Characters of a prompt that are read out for a picture.
LONGEST_ALT = 300


class Tile(NamedTuple):
    """A job, the links of its thumbnail and its picture, empty where there is none, and the words that stand for it."""

    job: Row[Any]
    thumbnail: str
    picture: str
    alt: str


def tile_of(job: Row[Any]) -> Tile:
    alt = plain(job.prompt)[:LONGEST_ALT] or f"Job {job.id}"
    if not job.image_path:
        return Tile(job, "", "", alt)
    thumbnail = f"/thumbnail/{job.id}/{thumbnail_name(job)}.webp"
    return Tile(job, thumbnail, f"/image/{job.id}/file?of={job.image_sha256}", alt)
