"""The shapes of what the API takes and answers. Times are seconds since 1970."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model
from sqlalchemy import JSON, Column, LargeBinary

from db.models import IMAGES, JOBS
from producer.history import INTERNAL

Cell = str | int | float | bool | None


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    title: str
    status: int
    detail: str = Field(description="The sentence that the command line would print.")
    problems: list[str] | None = Field(None, description="Of a prompt file: each bad row with its line.")
    total: int | None = Field(None, description="Of a prompt file: how many problems there are in all.")
    errors: list[str] | None = Field(None, description="Of a request: each part that is wrong.")


class Options(BaseModel):
    """What can be said about a batch. ``defaults`` go over the preset, and that over the server's settings."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=200, description="Of the batch; else that of the file.")
    priority: int = Field(5, ge=0, le=9, description="0 is made first, 9 last.")
    image_format: Literal["png", "jpeg", "webp"] | None = None
    preset: Literal["fast", "low-vram", "quality"] | None = None
    defaults: dict[str, Cell] = Field({}, description="Parameters for rows that do not give them, as `steps`.")
    template: Literal["random", "combinatorial"] | None = Field(None, description="Take prompts as templates.")
    template_seed: int | None = Field(None, ge=0, le=2**63 - 1)
    template_prompts: int | None = Field(None, ge=1, le=10**9)
    sweep: list[str] = Field([], max_length=20, description="Such as `steps=20,30` or `scale=5:9:1`.")
    style: list[str] = Field([], max_length=100, description="Names of the server's styles.")
    prepend: str | None = Field(None, max_length=8000)
    append: str | None = Field(None, max_length=8000)
    append_negative: str | None = Field(None, max_length=8000)
    once: bool = Field(False, description="Of rows that ask for the same, make the first alone.")
    anyway: bool = Field(False, description="Go on even if the images do not fit on the disk.")
    plan: bool = Field(False, description="Say what it takes, and queue nothing.")


class Row(BaseModel):
    """A prompt, any parameters by their names, and tags: what other members there are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Cell]

    prompt: str = Field(min_length=1, max_length=8000, pattern=r"\S")


class Submission(Options):
    """Rows of prompts, and what can be said about their batch."""

    rows: list[Row] = Field(min_length=1, max_length=100_000, examples=[[{"prompt": "a red circle", "steps": 20}]])


class Counts(BaseModel):
    """Jobs by state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class Hold(BaseModel):
    """Jobs that wait, since too many like them failed in a row; resuming the batch tries them again."""

    model: str
    cause: str
    message: str
    jobs: int


class Batch(BaseModel):
    """A batch and how far it is."""

    id: int
    name: str
    standing: Literal["waiting", "making", "paused", "held", "done"]
    total: int
    counts: Counts
    images_per_second: float = Field(description="Over the last minute; 0 until it was asked for twice.")
    seconds_left: float | None
    priority: int
    image_format: str
    submitted_at: float
    paused_at: float | None
    cancelled_at: float | None


class BatchDetail(Batch):
    """One batch, with what stands in its way."""

    holds: list[Hold]
    flagged: dict[str, int] = Field(description="Images that should be looked at, by the word.")


class BatchPage(BaseModel):
    """Batches, newest first."""

    batches: list[Batch]
    next: int | None = Field(description="`before` of the next page; null at the end.")


class Submitted(BaseModel):
    """A batch that is recorded."""

    batch: Batch
    sent: int | None = Field(description="Jobs that workers were told of; null where they wait for a queue.")
    repeated: bool = Field(description="Whether an earlier request with this Idempotency-Key had submitted it.")
    note: str
    warnings: list[str]


class Plan(BaseModel):
    """What it would take; nothing is queued."""

    rows: int
    images: int
    repeated: int
    models: dict[str, int]
    switches: int
    sizes: dict[str, int]
    long_prompts: int
    bytes_needed: int
    estimated: int
    bytes_free: int | None
    workers: int
    seconds: tuple[float, float] | None
    unmeasured: dict[str, int]
    lines: list[str] = Field(description="The same for people.")
    warnings: list[str]


class Changed(BaseModel):
    """What was done with a batch."""

    batch: Batch
    jobs: int | None = Field(description="Jobs that were cancelled, put back or sent; null where none were counted.")
    note: str


class Priority(BaseModel):
    """How soon a batch is made."""

    priority: int = Field(ge=0, le=9, description="0 is made first, 9 last.")


class Worker(BaseModel):
    """A worker process."""

    name: str
    host: str
    pid: int
    state: str
    device: str | None
    model: str | None
    jobs_done: int
    rate: float = Field(description="Images a second over the last minute.")
    memory: int | None
    vram: int | None
    started_at: float
    seen_at: float


class Metadata(BaseModel):
    """What an image file says of itself."""

    infotext: str | None
    record: dict[str, Any] | None


def _field(column: "Column[Any]") -> Any:
    kind: Any = dict[str, Any] if isinstance(column.type, JSON) else column.type.python_type
    return kind | None if column.nullable else kind, ...


_FIELDS: dict[str, Any] = {
    **{c.name: _field(c) for c in JOBS.columns if c.name not in INTERNAL and not isinstance(c.type, LargeBinary)},
    **{f"image_{c.name}": (_field(c)[0] | None, ...) for c in IMAGES.columns if c.name not in ("id", "job_id", "path")},
    "batch": (str, Field(description="The name of its batch.")),
    "image_url": (str | None, Field(description="Where its picture is, on this server.")),
}
#: A job with what it asked for and, where it has one, its image; columns of the ledger, by their names there.
Job = create_model("Job", **_FIELDS)


class JobPage(BaseModel):
    """Jobs, in the order asked for."""

    jobs: list[Job]  # type: ignore[valid-type]
    next: str | None = Field(description="`after` of the next page; null at the end.")
