"""How an image was asked for beyond its numbers (mask, precision, compatibility, weights), and more of how it was made.

Producers and workers of the version before go on recording jobs and images without these columns.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("job", sa.Column("mask_image", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("precision", sa.String(length=16), nullable=True))
    op.add_column("job", sa.Column("compat", sa.String(length=16), nullable=True))
    op.add_column("job", sa.Column("weights", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("job", sa.Column("noise", sa.JSON(), nullable=True))
    op.add_column("image", sa.Column("steps_run", sa.Integer(), nullable=True))
    op.add_column("image", sa.Column("safety_score", sa.Double(), nullable=True))
    op.add_column("image", sa.Column("watermark", sa.Boolean(), server_default=sa.false(), nullable=False))
