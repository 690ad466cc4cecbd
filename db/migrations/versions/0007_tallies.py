"""What has been made, counted by blocks of jobs; jobs by their state, and images by how long they took.

The index of seeds is in parts from here on, one for each 65,536 jobs: so a new job costs the same in a large ledger.

The tallies are written when somebody asks (`db.blocks`), as many as were missing: nothing is counted here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "tally",
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sampler", sa.String(length=64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
    )
    op.create_index("tally_block", "tally", ["block"])
    op.drop_index("job_seed", "job")
    op.create_index("job_seed", "job", [sa.text("(id >> 16)"), "seed"])
    op.create_index("job_state", "job", ["state", "id"])
    op.create_index("image_seconds", "image", ["seconds"])
