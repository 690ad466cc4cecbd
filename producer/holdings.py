"""What the ledger holds of the images that a file asks for: made, waiting to be made, or spoilt."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row

from db.content_keys import content_keys, standings
from db.models import JobState
from producer.asking import Asked
from producer.contents import Contents

LOST, STALE = "its file is gone", "it was made with another checkpoint"
"""Why an image that was made counts as not there."""


@dataclass(frozen=True)
class Shelf:
    """Where images lie: below ``root``. complete: whether all of them are on this machine, as with a SQLite ledger."""

    root: Path
    complete: bool

    def lacks(self, path: str) -> bool:
        """Whether an image's file is gone; a folder that is not here at all may be on the workers' machine."""
        # A path object for each of a million images would take seconds.
        place = os.path.join(self.root, path)  # noqa: PTH118
        return not os.path.isfile(place) and (self.complete or os.path.isdir(os.path.dirname(place)))  # noqa: PTH112, PTH113, PTH120


@dataclass
class Holdings:
    """By content key, of the keys that are asked for."""

    there: dict[bytes, int]
    """How many images there are or will be."""
    spoilt: dict[bytes, str] = field(default_factory=dict)
    """Why nothing is there of jobs that asked for it, in words."""
    waiting: int = 0
    """Of those that are there, how many are not made yet."""
    others: dict[bytes, int] = field(default_factory=dict)
    """Of keys that are not asked for, a job each; of those alone that were to be looked for."""


def find_holdings(
    engine: Engine, asked: Iterable[Asked], gone: Iterable[bytes], contents: Contents, shelf: Shelf
) -> Holdings:
    """Look for the images that are asked for; gone: other keys to look for."""
    models = {image.key: image.model for image in asked}
    found = Holdings(dict.fromkeys(models, 0), others=dict.fromkeys(gone, 0))
    ids = []
    for job_id, key in content_keys(engine):
        if key in models:
            ids.append(job_id)
        elif key in found.others:
            found.others[key] = job_id
    for row in standings(engine, ids):
        if why := _spoilt(row, contents.weights(models[row.content_key]), shelf):
            found.spoilt[row.content_key] = why
        else:
            found.there[row.content_key] += 1
            found.waiting += row.state is not JobState.SUCCEEDED
    return found


def _spoilt(row: Row[Any], weights: str | None, shelf: Shelf) -> str:
    """Why nothing is there of a job; empty where it is, or will be."""
    if row.state in (JobState.QUEUED, JobState.RUNNING):
        return ""
    if row.state is not JobState.SUCCEEDED:
        return f"it {'failed' if row.state is JobState.FAILED else 'was cancelled'}"
    if row.path is None or shelf.lacks(row.path):
        return LOST
    return STALE if weights not in (None, row.checkpoint_hash) else ""
