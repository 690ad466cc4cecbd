"""How the edits of a prompt file are told."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import structs
from sqlalchemy import Engine

from configs.plain_text import plain
from db.content_keys import jobs_by_id
from producer.delta import Delta, Edit
from producer.prompts import Row

LISTED = 10
"""Rows listed of each kind; all are counted."""
LONGEST = 60
"""Characters shown of a text."""
NOT_COMPARED = ("num_images",)


def tell(delta: Delta, engine: Engine) -> Iterator[str]:
    """Lines for people: what is there, what is not, and the first rows of each kind."""
    counts = ", ".join(f"{len(edits)} {kind}" for kind, edits in delta.edits.items())
    yield f"{delta.rows} rows: {delta.unchanged} unchanged, {counts}."
    texts = _Texts(delta, engine)
    for kind, edits in delta.edits.items():
        yield from (f"  {kind:<8} line {edit.line}: {texts.of(kind, edit)}" for edit in edits[:LISTED])
        if len(edits) > LISTED:
            yield f"  {kind:<8} and {len(edits) - LISTED} more"
    if delta.repeated:
        yield f"{delta.repeated} images are left out, since earlier rows ask for them."
    if delta.waiting:
        yield f"{delta.waiting} jobs for unchanged rows are queued or being made."


def summarise(delta: Delta) -> dict[str, Any]:
    """The same for programs, with the lines of all rows that are not as they were."""
    lines = {kind: [edit.line for edit in edits] for kind, edits in delta.edits.items()}
    images = delta.submission.batch.total
    counts = {"rows": delta.rows, "unchanged": delta.unchanged, "images": images}
    return {**counts, "waiting": delta.waiting, "repeated": delta.repeated, **lines}


class _Texts:
    """What to say of the edits that are listed."""

    def __init__(self, delta: Delta, engine: Engine) -> None:
        listed = [edit for edits in delta.edits.values() for edit in edits[:LISTED]]
        self._jobs = jobs_by_id(engine, [edit.before for edit in listed if edit.before])
        lines = {edit.line for kind, edits in delta.edits.items() if kind != "gone" for edit in edits[:LISTED]}
        self._rows = _find_rows(delta.submission.prompts.rows(), lines)

    def of(self, kind: str, edit: Edit) -> str:
        job = self._jobs.get(edit.before or 0)
        if kind == "gone":
            return _shown(job.prompt) if job else ""
        row = self._rows[edit.line]
        if job is not None:
            return _differences(row, job._mapping)
        return f"{_shown(row.parameters.prompt)}{f' ({edit.note})' if edit.note else ''}"


def _find_rows(rows: Iterable[Row], lines: set[int]) -> dict[int, Row]:
    """The first row of each line."""
    found: dict[int, Row] = {}
    for row in rows:
        if len(found) == len(lines):
            break
        if row.line in lines:
            found.setdefault(row.line, row)
    return found


def _differences(row: Row, job: Any) -> str:
    """What another row asks for than the job of the one that stood there."""
    found = [
        f"{name} {_shown(job[name])} → {_shown(value)}"
        for name, value in structs.asdict(row.parameters).items()
        if name in job and value != job[name] and not (name == "seed" and value is None)
    ]
    if found:
        return ", ".join(found)
    seedless = row.parameters.seed is None
    return "the seed, or what a file holds" if seedless else "its checkpoint or pictures hold something else"


def _shown(value: object) -> str:
    text = plain(str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
