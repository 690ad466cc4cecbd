"""A name for each batch that holds in every ledger, what a job's picture depends on, and the template of its prompt.

Producers of the version before go on without them. ``job.content_key`` has no index: its values are random, and a
place in a large index for each would cost more than reading them all when they are wanted.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("batch", sa.Column("uid", sa.String(length=32), nullable=True))
    op.add_column("job", sa.Column("content_key", sa.LargeBinary(), nullable=True))
    op.add_column("job", sa.Column("template", sa.JSON(), nullable=True))
    _name_batches()
    op.create_index("batch_uid", "batch", ["uid"], unique=True)


def _name_batches() -> None:
    batch = sa.table("batch", sa.column("id", sa.BigInteger), sa.column("uid", sa.String))
    connection = op.get_bind()
    for (batch_id,) in connection.execute(sa.select(batch.c.id)).fetchall():
        connection.execute(batch.update().where(batch.c.id == batch_id).values(uid=secrets.token_hex(16)))
