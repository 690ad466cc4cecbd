"""The shape of the calls that made an image, whether it is exact, and what is wrong with it.

Workers of the version before go on recording images without these columns.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("image", sa.Column("vae_batch", sa.Integer(), nullable=True))
    op.add_column("image", sa.Column("exact", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("image", sa.Column("flagged", sa.String(length=16), nullable=True))
    op.create_index(
        "image_flagged",
        "image",
        ["job_id"],
        unique=False,
        sqlite_where=sa.text("flagged IS NOT NULL"),
        postgresql_where=sa.text("flagged IS NOT NULL"),
    )
