"""The tables of the ledger: batches, their jobs, and the images those became. Times are seconds since 1970 in UTC.

They are plain tables and no mapped classes: every write here is one statement on many rows, for which the mapper does
nothing but make each command start later.
"""

import enum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

BIG_ID = BigInteger().with_variant(Integer, "sqlite")
METADATA = MetaData()
#: Bits of a job's id that are its number within a part of the index of seeds.
SEEDS = 16


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


def _needed(name: str, kind: Any, *constraints: Any, **options: Any) -> "Column[Any]":
    return Column(name, kind, *constraints, nullable=False, **options)


#: The jobs one person submitted together, normally one prompt file.
BATCHES = Table(
    "batch",
    METADATA,
    Column("id", BIG_ID, primary_key=True),
    _needed("name", Text),
    #: Folder of its images, below the images' root.
    _needed("folder", Text),
    _needed("source_sha256", String(64)),
    _needed("image_format", String(8)),
    _needed("priority", Integer),
    _needed("total", Integer),
    _needed("created_at", Double),
    #: None while its jobs are still being recorded; such a batch is not worked on.
    Column("submitted_at", Double),
    Column("paused_at", Double),
    Column("cancelled_at", Double),
    #: When its jobs were last sent, or began to be: the audit leaves it alone for a while.
    Column("sent_at", Double),
    #: Names it in every ledger, in hexadecimal digits. None where a version before this column recorded it.
    Column("uid", String(32)),
    Index("batch_uid", "uid", unique=True),
)

STATE = Enum(JobState, native_enum=False, length=16, values_callable=lambda states: [state.value for state in states])

#: One image to make each, with every parameter resolved.
JOBS = Table(
    "job",
    METADATA,
    Column("id", BIG_ID, primary_key=True),
    _needed("batch_id", BIG_ID, ForeignKey("batch.id")),
    #: Number of the chunk it is first sent in, from 0 in each batch.
    _needed("chunk", Integer),
    #: Line of the prompt file, and which of the row's images this is.
    _needed("line", Integer),
    _needed("image_index", Integer),
    _needed("priority", Integer),
    _needed("prompt", Text),
    _needed("negative_prompt", Text),
    _needed("model", Text),
    _needed("sampler", String(64)),
    _needed("steps", Integer),
    _needed("scale", Double),
    _needed("width", Integer),
    _needed("height", Integer),
    _needed("seed", BigInteger),
    Column("init_image", Text),
    _needed("strength", Double),
    _needed("eta", Double),
    #: White is painted anew, black stays. None without a mask.
    Column("mask_image", Text),
    #: The number format asked for; None leaves it to the worker.
    Column("precision", String(16)),
    #: Whose numbers are matched: ``compvis`` or ``optimized``. None: our own.
    Column("compat", String(16)),
    #: Whether ``text:number`` in the prompt is a weight.
    _needed("weights", Boolean, server_default=false()),
    #: Where the noise comes from when not from the seed alone: the run it is part of, and its place there.
    Column("noise", JSON(none_as_null=True)),
    #: A digest of all that its picture depends on, as it was asked for. Not indexed: the values are random, and a place
    #: for each in a large index would cost more than reading them all when they are wanted.
    Column("content_key", LargeBinary),
    #: What the prompt was made from, where it is not the file's own text.
    Column("template", JSON(none_as_null=True)),
    #: Columns of the prompt file that are no parameters: text by name.
    _needed("tags", JSON),
    _needed("state", STATE),
    #: Times it was started; counted before the work, so that a job that kills its worker is seen.
    _needed("attempts", Integer, default=0),
    #: Raised at every start and release: a result under an older fence is refused.
    _needed("fence", Integer, default=0),
    Column("worker", Text),
    Column("lease_until", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    #: One word for why it failed or was last put back: ``invalid``, ``checkpoint``, ``memory``, ``nan``, ``poison``,
    #: ``unexpected``.
    Column("cause", String(32)),
    Column("message", Text),
    Index("job_batch_state", "batch_id", "state", "id"),
    #: Seeds are random. One by one, in parts, so that a new job's place is near those of the last ones, and is written
    #: with them: among a million it would cost as much as the job.
    Index("job_seed", text(f"(id >> {SEEDS})"), "seed"),
    Index("job_steps", "steps", "id"),
    Index("job_scale", "scale", "id"),
    Index(
        "job_finished",
        "finished_at",
        "id",
        sqlite_where=text("finished_at IS NOT NULL"),
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    Index("job_state", "state", "id"),
    Index(
        "job_lease",
        "lease_until",
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
)

#: One finished picture each, and what made it.
IMAGES = Table(
    "image",
    METADATA,
    Column("id", BIG_ID, primary_key=True),
    _needed("job_id", BIG_ID, ForeignKey("job.id"), unique=True),
    #: Below the images' root, with forward slashes.
    _needed("path", Text),
    #: SHA-256 of the pixels (8-bit RGB, row by row), not of the file.
    _needed("sha256", String(64)),
    _needed("width", Integer),
    _needed("height", Integer),
    _needed("bytes", Integer),
    #: From joining the running samples to the decoded picture.
    _needed("seconds", Double),
    _needed("worker", Text),
    _needed("device", Text),
    _needed("dtype", String(16)),
    #: Rows of the largest UNet call it was part of; padding counts.
    _needed("batch_rows", Integer),
    #: Images of the VAE call that decoded it; padding counts. None for what was made before this was recorded.
    Column("vae_batch", Integer),
    #: Whether it was made in exact mode, on a device that passed the self-test.
    _needed("exact", Boolean, server_default=false()),
    #: One word for why it should be looked at: ``flat``, all of one colour, or ``unsafe``. None where it looks right.
    Column("flagged", String(16)),
    #: What the safety checker found, above 0 where it flags. None where it was off.
    Column("safety_score", Double),
    #: Whether an invisible watermark is in it.
    _needed("watermark", Boolean, server_default=false()),
    #: Steps really taken: fewer than asked from an init image, others on a grid of its own. None as for `vae_batch`.
    Column("steps_run", Integer),
    _needed("checkpoint_hash", String(64)),
    #: Versions of the libraries that made it, and what else of the way can change its bits.
    _needed("versions", JSON),
    _needed("created_at", Double),
    Index("image_created", "created_at"),
    Index("image_seconds", "seconds", "job_id"),
    Index("image_bytes", "bytes", "job_id"),
    Index(
        "image_flagged",
        "job_id",
        sqlite_where=text("flagged IS NOT NULL"),
        postgresql_where=text("flagged IS NOT NULL"),
    ),
)

#: What became of a block of jobs (`db.blocks`), all of which have ended, for each batch, model and so on in it.
TALLIES = Table(
    "tally",
    METADATA,
    #: The ids of its jobs divided by a block's size.
    _needed("block", BigInteger),
    _needed("batch_id", BigInteger),
    _needed("model", Text),
    _needed("sampler", String(64)),
    _needed("width", Integer),
    _needed("height", Integer),
    #: On which they ended, from 1970 in UTC. None where that is not known.
    Column("day", Integer),
    _needed("worker", Text),
    _needed("images", Integer),
    _needed("failures", Integer),
    #: Of a device; see `db.tally`.
    _needed("seconds", Double),
    Index("tally_block", "block"),
)

#: The jobs of a batch that want one checkpoint, when too many of them failed in a row: no more are started.
HOLDS = Table(
    "hold",
    METADATA,
    _needed("batch_id", BIG_ID, ForeignKey("batch.id"), primary_key=True),
    _needed("model", Text, primary_key=True),
    #: Of the failures.
    _needed("cause", String(32)),
    #: Of the last one.
    _needed("message", Text),
    _needed("held_at", Double),
)

#: What is told of a batch to those who want to be notified, once each.
NOTICES = Table(
    "notice",
    METADATA,
    _needed("batch_id", BIG_ID, ForeignKey("batch.id"), primary_key=True),
    #: See `db.notices.Event`.
    _needed("event", String(16), primary_key=True),
    #: Until then somebody sends it; to be extended as long as that takes.
    _needed("claimed_until", Double),
    #: When it had gone out, or was given up. None before.
    Column("sent_at", Double),
)


class WorkerState(str, enum.Enum):
    """What a worker is at."""

    #: Its process was started, and takes no jobs yet.
    STARTING = "starting"
    #: It waits for jobs.
    IDLE = "idle"
    #: It opens a checkpoint, and may have to fetch it.
    OPENING = "opening"
    RENDERING = "rendering"
    #: It was told to stop, and finishes what is on the device.
    DRAINING = "draining"
    #: Its process has ended without being told to.
    DEAD = "dead"


#: One worker process each, for as long as it lives; a dead one is kept for a day.
WORKERS = Table(
    "worker",
    METADATA,
    Column("name", Text, primary_key=True),
    _needed("host", Text),
    _needed("pid", Integer),
    #: A `WorkerState`.
    _needed("state", String(16)),
    #: The card, or `cpu`.
    Column("device", Text),
    #: The open checkpoint.
    Column("model", Text),
    _needed("jobs_done", Integer),
    #: Images a second over the last minute.
    _needed("rate", Double),
    #: Bytes of main memory, and of the card's that torch has taken.
    Column("memory", BigInteger),
    Column("vram", BigInteger),
    _needed("started_at", Double),
    #: Its last sign of life.
    _needed("seen_at", Double),
)

#: The columns, to be written `Job.seed`.
Batch, Job, Image, Hold, Notice = BATCHES.c, JOBS.c, IMAGES.c, HOLDS.c, NOTICES.c
Worker, Tally = WORKERS.c, TALLIES.c
