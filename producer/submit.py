"""Submitting a prompt file: every row is checked, then all of them are recorded as the jobs of a batch."""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import structs
from sqlalchemy import Row as BatchRow

from configs.compat import Course, images
from configs.content_key import content_key
from configs.plain_text import recordable
from configs.settings import Settings, read_preset
from db import queries
from db.ledger import Ledger, NewBatch
from producer.contents import Contents
from producer.expansion import Expansion
from producer.outside import refuse_path
from producer.problems import Report
from producer.prompts import PromptFile, Row
from producer.repeats import Repeats
from producer.wanted import take_wanted

#: Jobs recorded in one transaction.
INSERT_SIZE = 10_000
#: The last jobs of a batch go out in smaller chunks, so that every GPU gets some of them.
TAIL, TAIL_SIZE = 64, 4
#: Drawn seeds are this short so that people can read them out; given ones may be longer.
DRAWN_SEEDS, SEED_BYTES = 2**32, 4
#: Seeds drawn at a time: the system is slow to give a few bytes, and quick to give many.
DRAWN = 4096
SEEDS = 2**63


class Prompts(Protocol):
    """Rows that are checked, as often as they are wanted."""

    @property
    def warnings(self) -> Report:
        """What is not wrong, and should be known."""

    def rows(self) -> Iterator[Row]: ...


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Checked prompts and what their batch is to be."""

    prompts: Prompts
    batch: NewBatch
    chunk_size: int
    #: As the setting of that name.
    noise_threads: int | None = None
    #: What the rows refer to.
    contents: Contents = field(default_factory=Contents)
    #: Rows that ask for what others ask for; None where that is as it should be.
    repeats: Repeats | None = None
    #: The images of all rows by width and height, where they were counted.
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    #: Texts of which the text encoder does not read all, where they were counted.
    long_prompts: int = 0
    #: For each image of the rows in their order whether it becomes a job; None: all do.
    chosen: Sequence[int] | None = None


def check(
    file: str,
    settings: Settings,
    *,
    preset: str | None = None,
    name: str | None = None,
    priority: int = 5,
    image_format: str | None = None,
    outside: bool = False,
    label: str | None = None,
    **flags: Any,
) -> Submission:
    """Read and check the whole file; nothing is recorded. ``flags`` go over the preset, and that over the settings.

    outside: the file is from another machine, and its rows name no paths of this one. label: what messages call it.

    Raises:
        InvalidPromptFile: rows of it are wrong.
        ConfigError: there is no such preset, or it holds what it cannot.
    """
    expansion = Expansion(take_wanted(flags, settings))
    given = {parameter: value for parameter, value in flags.items() if value is not None}
    preset_job = read_preset(preset).get("job", {}) if preset else {}
    defaults = {**settings.job, **preset_job, **given}
    path: Path | Literal["-"] = "-" if file == "-" else Path(file)
    contents = Contents(settings.home)
    prompts = PromptFile(
        path,
        defaults=defaults,
        roots=settings.roots,
        expansion=expansion,
        recipe_of=contents.recipe_of,
        admit=refuse_path if outside else None,
        label=label,
    )
    batch = NewBatch(
        name=recordable(name or prompts.name),
        slug=slug(name or Path(prompts.name).stem),
        source_sha256=prompts.sha256,
        image_format=image_format or settings.image_format,
        total=prompts.check(),
        priority=priority,
    )
    return Submission(
        prompts=prompts,
        batch=batch,
        chunk_size=settings.chunk_size,
        noise_threads=settings.noise_threads,
        contents=contents,
        repeats=prompts.repeats(),
        sizes=prompts.sizes,
        long_prompts=prompts.long_prompts,
    )


def record(submission: Submission, ledger: Ledger) -> BatchRow[Any]:
    """Record the batch with all its jobs, and open it; when anything stops that, nothing of it is left."""
    batch_id = ledger.create_batch(submission.batch)
    try:
        jobs = resolve_jobs(submission, batch_id)
        while part := list(islice(jobs, INSERT_SIZE)):
            ledger.add_jobs(part)
        ledger.open_batch(batch_id)
    except BaseException:
        ledger.discard_batch(batch_id)
        raise
    return queries.find_batch(ledger.engine, str(batch_id))


def resolve_jobs(submission: Submission, batch_id: int) -> Iterator[dict[str, Any]]:
    """The rows of the job table: one for each image that is chosen, with its seed."""
    index, total, size = 0, submission.batch.total, submission.chunk_size
    chosen = iter(repeat(1) if submission.chosen is None else submission.chosen)
    seed_of = Draws()
    for row in submission.prompts.rows():
        shared = _shared_values(row, batch_id, submission.batch.priority)
        keyed = zip(images_of(row, seed_of(row), submission.noise_threads), content_keys(row, submission), strict=True)
        for image_index, ((seed, noise), key) in enumerate(keyed, row.first):
            if next(chosen):
                chunk = chunk_of(index, total, size)
                own = {"chunk": chunk, "image_index": image_index, "seed": seed % SEEDS, "noise": noise}
                yield {**shared, **own, "content_key": key}
                index += 1


class Draws:
    """The seeds of rows: drawn where they give none, one for all rows of a prompt of a line."""

    def __init__(self) -> None:
        self._of, self._drawn = (0, 0), 0
        self._stock: Iterator[int] = iter(())

    def __call__(self, row: Row) -> int:
        if row.parameters.seed is not None:
            return row.parameters.seed
        if (row.line, row.number) != self._of:
            self._of, self._drawn = (row.line, row.number), self._draw()
        return self._drawn

    def _draw(self) -> int:
        if (seed := next(self._stock, None)) is None:
            self._stock = iter(memoryview(secrets.token_bytes(SEED_BYTES * DRAWN)).cast("I"))
            seed = next(self._stock)
        return seed


def content_keys(row: Row, submission: Submission) -> list[bytes]:
    """Those of a row's images, in their order: the same whatever seed is drawn."""
    asked, recipe = row.parameters.seed, row.recipe or submission.contents.recipe_of(row.parameters)
    # By chance, a line may have one prompt several times.
    drawn = row.number * row.parameters.num_images if (row.template or {}).get("mode") == "random" else 0
    if row.parameters.num_images == 1 and row.parameters.compat is None:
        return [content_key(recipe, asked, drawn, row.noise)]
    images = enumerate(images_of(row, asked or 0, submission.noise_threads), drawn)
    return [content_key(recipe, None if asked is None else seed, index, noise) for index, (seed, noise) in images]


def images_of(row: Row, seed: int, threads: int | None) -> Iterable[tuple[int, dict[str, Any] | None]]:
    """Seed and noise of each of a row's images. In a compatibility mode a row is a run, unless it says its noise."""
    wanted = row.parameters
    if wanted.compat is None or row.noise is not None:
        return [(seed + number, row.noise) for number in range(wanted.num_images)]
    course = Course(
        mode=wanted.compat,
        sampler=wanted.sampler,
        steps=wanted.steps,
        seed=seed,
        n_samples=wanted.num_images,
        eta=wanted.eta,
        strength=wanted.strength if wanted.init_image else None,
        threads=threads,
    )
    return ((image.seed, image.noise.record()) for image in images(course, [[row] * wanted.num_images]))


def chunk_of(index: int, total: int, size: int) -> int:
    """The number of the chunk that the job at ``index`` of ``total`` is first sent in, from 0.

    Chunks have ``size`` jobs, the last `TAIL` jobs go in chunks of `TAIL_SIZE`.
    """
    full = max(0, total - TAIL) // size
    if index < full * size:
        return index // size
    return full + (index - full * size) // min(size, TAIL_SIZE)


def slug(name: str) -> str:
    """The name as part of a folder's name: ``[a-z0-9-]``, at most 40 characters, possibly none."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].rstrip("-")


def _shared_values(row: Row, batch_id: int, priority: int) -> dict[str, Any]:
    values = structs.asdict(row.parameters)
    del values["num_images"]
    values |= {
        "batch_id": batch_id, "line": row.line, "priority": priority, "tags": row.tags, "template": row.template,
    }  # fmt: skip
    return values
