"""Indexes for the orders of a history: steps, scale, when a job ended, how long its image took, and its bytes.

Each has the id, so that a page goes on where the one before ended. A job has no end when it is recorded: the index of
the ends costs a submit nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ENDED = sa.text("finished_at IS NOT NULL")


def upgrade() -> None:
    op.drop_index("job_steps_scale", "job")
    op.create_index("job_steps", "job", ["steps", "id"])
    op.create_index("job_scale", "job", ["scale", "id"])
    op.create_index("job_finished", "job", ["finished_at", "id"], sqlite_where=ENDED, postgresql_where=ENDED)
    op.drop_index("image_seconds", "image")
    op.create_index("image_seconds", "image", ["seconds", "job_id"])
    op.create_index("image_bytes", "image", ["bytes", "job_id"])
