"""Jobs that are asked for again: as they were recorded, but for what is set anew."""

import secrets
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec import ValidationError, convert, json, structs
from sqlalchemy import Engine
from sqlalchemy import Row as JobRow

from configs.compat import Noise
from configs.errors import ConfigError, InvalidParameter
from configs.parameters import PARAMETERS, Parameters, conflicts, read_parameter, read_text
from configs.plain_text import recordable
from configs.roots import Roots
from configs.settings import Settings
from db import queries
from db.errors import NotInLedger
from db.ledger import NewBatch
from producer.columns import NAMES, fold, make_column
from producer.contents import Contents
from producer.errors import NoRecord, RerunRefused
from producer.init_images import find_faults
from producer.picture import open_picture
from producer.problems import Report
from producer.prompts import WARNINGS, Row
from producer.recorded_noise import takes_noise
from producer.show import read_record
from producer.submit import DRAWN_SEEDS, Submission, slug
from producer.suggestions import suggest

RANDOM = "random"
#: What an empty value means, where there may be none.
EMPTY = {"negative_prompt": "", "precision": None, "compat": None, "init_image": None, "mask_image": None}
#: Recorded noise is that of one image of one run: with these it is another image.
NOISE_FROM = {"seed", "compat", "num_images"}
#: What a record raises that is none.
UNREADABLE = (ConfigError, ValidationError, TypeError)
SHARED = tuple(name for name in PARAMETERS if name != "num_images")


class Again:
    """Rows for jobs, checked once; they may be had several times. Memory does not grow with their number.

    Raises:
        RerunRefused: a job with the changes is none that can be made.
    """

    def __init__(self, jobs: Iterable[Row], changes: Mapping[str, Any], roots: Roots | None = None) -> None:
        self.warnings = Report("rerun", WARNINGS)
        self.total, digest, encode = 0, sha256(), json.Encoder().encode
        # What is recorded is what was checked, whatever is found by then: the new jobs may be, too.
        self._checked = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its rows
        weakref.finalize(self, self._checked.close)
        for row in jobs:
            line = encode(change(row, changes, roots)) + b"\n"
            self._checked.write(line)
            digest.update(line)
            self.total += changes.get("num_images", 1)
        self.sha256 = digest.hexdigest()

    def rows(self) -> Iterator[Row]:
        self._checked.seek(0)
        yield from map(json.Decoder(Row).decode, self._checked)


def submission_of(again: Again, settings: Settings, name: str | None) -> Submission:
    """What is to be recorded. Raises RerunRefused where there is nothing."""
    if not again.total:
        raise RerunRefused("No job was found that could be made again; `promptmill history` lists what there is.")
    batch = NewBatch(
        name=recordable(name or "rerun"),
        slug=slug(name or "rerun"),
        source_sha256=again.sha256,
        image_format=settings.image_format,
        total=again.total,
    )
    return Submission(
        prompts=again,
        batch=batch,
        chunk_size=settings.chunk_size,
        noise_threads=settings.noise_threads,
        contents=Contents(settings.home),
    )


def read_changes(texts: Sequence[str]) -> dict[str, Any]:
    """The parameters of ``NAME=VALUE``, by the names that prompt files take, each of its own type.

    Raises:
        RerunRefused: there is no such parameter, or it takes no such value; the message says what it takes.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        heading, equals, value = text.partition("=")
        name = NAMES.get(fold(heading))
        if not equals or not name:
            known = f"parameters are size and {', '.join(PARAMETERS)}"
            why = suggest(heading, NAMES.values(), known) if equals else "write NAME=VALUE, such as steps=40"
            raise RerunRefused(f"--set {text!r:.80}: there is no such parameter; {why}")
        read = _read_change(heading, name, value)
        if again := read.keys() & changes.keys():
            raise RerunRefused(f"--set {heading}: gives {min(again)} a second time; keep one of the two.")
        changes.update(read)
    return changes


def _read_change(heading: str, name: str, value: str) -> dict[str, Any]:
    if name == "seed" and value == RANDOM:
        return {name: None}
    if name in EMPTY and not value:
        return {name: EMPTY[name]}
    try:
        read = make_column(name, Path()).read(value)
    except ConfigError as error:
        raise RerunRefused(f"--set {heading}: {error}.") from error
    return dict(zip(("width", "height"), read, strict=True)) if name == "size" else {name: read}


def change(row: Row, changes: Mapping[str, Any], roots: Roots | None) -> Row:
    """The row with the changes. Raises RerunRefused where they do not go with the rest of it."""
    values = {**structs.asdict(row.parameters), **changes}
    if "seed" in changes and values["seed"] is None:
        values["seed"] = secrets.randbelow(DRAWN_SEEDS)
    for name, message in (*find_faults(values, roots), *conflicts(values)):
        raise RerunRefused(f"The job with seed {row.parameters.seed} cannot be made so: {name}: {message}.")
    noise = None if NOISE_FROM & changes.keys() else row.noise
    if noise and not noise.get("steps") and takes_noise(values):
        raise RerunRefused(
            "The noise recorded of its run has none for steps that take some; add --set seed=N or random."
        )
    # A prompt that is given was made of no template.
    template = None if "prompt" in changes else row.template
    return structs.replace(row, parameters=Parameters(**values), noise=noise, template=template)


def row_of_job(job: "JobRow[Any]") -> Row:
    """The row that asks for what a job of the ledger asks for."""
    parameters = Parameters(**{name: getattr(job, name) for name in SHARED})
    return Row(job.line, parameters, job.tags, job.noise, 0, job.image_index, job.template)


def row_of_id(engine: Engine, text: str) -> Row:
    """What the job of that number asks for. Raises RerunRefused where there is none."""
    try:
        return row_of_job(queries.find_job(engine, queries.id_of(text) or 0))
    except NotInLedger as error:
        raise RerunRefused(str(error)) from error


def row_of_image(engine: Engine, path: Path, root: Path) -> tuple[Row, bool]:
    """What an image file's job asks for; and whether the ledger says so, or only the file.

    Raises:
        NoRecord: it holds no record of ours, or a broken one.
        PictureUnreadable: it is no picture.
    """
    record = read_record(path)
    if not record:
        raise NoRecord(f"{path} holds no record of Promptmill; give the number of a job, or an image made here.")
    if job := job_of_image(engine, path, record, root):
        return row_of_job(job), True
    try:
        return row_of_record(record), False
    except UNREADABLE as error:
        raise NoRecord(f"The record in {path} is none that can be made again: {error}.") from error


def job_of_image(engine: Engine, path: Path, record: Mapping[str, Any], root: Path) -> "JobRow[Any] | None":
    """The job that has made a file with that record, if the ledger knows it. Raises PictureUnreadable."""
    job = _find_job(engine, record.get("job"))
    known = job is not None and job.image_path and job.seed == record.get("seed") and _agrees(job, path, root)
    return job if known else None


def _find_job(engine: Engine, job_id: object) -> "JobRow[Any] | None":
    try:
        return queries.find_job(engine, queries.id_of(str(job_id)) or 0)
    except NotInLedger:
        return None


def _agrees(job: "JobRow[Any]", path: Path, root: Path) -> bool:
    """Whether the file is the job's image: it lies in its place, or has its pixels."""
    if path.resolve() == (root / job.image_path).resolve():
        return True
    with open_picture(path) as image:
        return bool(sha256(image.convert("RGB").tobytes()).hexdigest() == job.image_sha256)


def row_of_record(record: Mapping[str, Any]) -> Row:
    """What a record asks for. A stranger may have written it: every value is read as a cell is.

    Raises one of UNREADABLE.
    """
    missing = [name for name in ("prompt", "model", "sampler", "steps", "scale", "width", "height", "seed")
               if record.get(name) is None]  # fmt: skip
    if missing:
        raise InvalidParameter(f"it lacks {', '.join(missing)}")
    found = {name: read_parameter(name, record[name]) for name in SHARED if record.get(name) is not None}
    parameters = Parameters(**{"strength": 0.75, "eta": 0.0, **found})
    tags = {read_text(name): read_text(value) for name, value in convert(record.get("tags") or {}, dict).items()}
    noise = convert(record["noise"], Noise).record() if record.get("noise") else None
    line, index = (number if type(number := record.get(name)) is int and 0 <= number < 2**31 else 0
                   for name in ("line", "image_index"))  # fmt: skip
    return Row(line, parameters, tags, noise, 0, index, convert(record.get("template"), dict | None))
