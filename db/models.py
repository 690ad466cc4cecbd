"""The tables of the ledger: batches, their jobs, and the images those became."""

import enum
from typing import Any

from sqlalchemy import JSON, BigInteger, Enum, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BigId = BigInteger().with_variant(Integer, "sqlite")


class JobState(str, enum.Enum):
    """Where a job stands. ``docs/job_states.md`` draws the way between them."""

    #: Recorded and not being worked on; its message may or may not have been sent yet.
    QUEUED = "queued"
    #: A worker has started it and holds its lease; a crash leaves it here until it is rescued.
    RUNNING = "running"
    #: Its image is on disk and in the ledger.
    SUCCEEDED = "succeeded"
    #: It will not be tried again by itself; the cause and message say why.
    FAILED = "failed"
    #: Somebody cancelled its batch before it was started.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Model(DeclarativeBase):
    """Root of the tables. Times are seconds since 1970 in UTC."""

    type_annotation_map = {dict[str, Any]: JSON, dict[str, str]: JSON}  # noqa: RUF012 - SQLAlchemy's own protocol


class Batch(Model):
    """The jobs one person submitted together, normally one prompt file."""

    __tablename__ = "batch"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    #: Folder of its images, below the images' root.
    folder: Mapped[str] = mapped_column(Text)
    source_sha256: Mapped[str] = mapped_column(String(64))
    image_format: Mapped[str] = mapped_column(String(8))
    priority: Mapped[int]
    total: Mapped[int]
    created_at: Mapped[float]
    #: None while its jobs are still being recorded; such a batch is not worked on.
    submitted_at: Mapped[float | None]
    paused_at: Mapped[float | None]
    cancelled_at: Mapped[float | None]


class Job(Model):
    """One image to make, with every parameter resolved."""

    __tablename__ = "job"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    batch_id: Mapped[int] = mapped_column(BigId, ForeignKey("batch.id"))
    #: Number of the chunk it is first sent in, from 0 in each batch.
    chunk: Mapped[int]
    #: Line of the prompt file, and which of the row's images this is.
    line: Mapped[int]
    image_index: Mapped[int]
    priority: Mapped[int]

    prompt: Mapped[str] = mapped_column(Text)
    negative_prompt: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    sampler: Mapped[str] = mapped_column(String(64))
    steps: Mapped[int]
    scale: Mapped[float]
    width: Mapped[int]
    height: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    init_image: Mapped[str | None] = mapped_column(Text)
    strength: Mapped[float]
    eta: Mapped[float]
    #: Columns of the prompt file that are no parameters.
    tags: Mapped[dict[str, str]]

    state: Mapped[JobState] = mapped_column(
        Enum(JobState, native_enum=False, length=16, values_callable=lambda states: [s.value for s in states])
    )
    #: Times it was started; counted before the work, so that a job that kills its worker is seen.
    attempts: Mapped[int] = mapped_column(default=0)
    #: Raised at every start and release: a result under an older fence is refused.
    fence: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[float | None]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    #: One word for why it failed or was last put back: ``invalid``, ``checkpoint``, ``memory``, ``nan``, ``poison``,
    #: ``unexpected``.
    cause: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("job_batch_state", "batch_id", "state", "id"),
        Index("job_seed", "seed"),
        Index("job_steps_scale", "steps", "scale", "id"),
        Index(
            "job_lease",
            "lease_until",
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )


class Image(Model):
    """One finished picture and what made it."""

    __tablename__ = "image"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigId, ForeignKey("job.id"), unique=True)
    #: Below the images' root, with forward slashes.
    path: Mapped[str] = mapped_column(Text)
    #: SHA-256 of the pixels (8-bit RGB, row by row), not of the file.
    sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    bytes: Mapped[int]
    #: From joining the running samples to the decoded picture.
    seconds: Mapped[float]
    worker: Mapped[str] = mapped_column(Text)
    device: Mapped[str] = mapped_column(Text)
    dtype: Mapped[str] = mapped_column(String(16))
    #: Rows of the UNet calls that made it.
    batch_rows: Mapped[int]
    checkpoint_hash: Mapped[str] = mapped_column(String(64))
    #: Versions of the libraries that made it.
    versions: Mapped[dict[str, str]]
    created_at: Mapped[float]

    __table_args__ = (Index("image_created", "created_at"),)
