"""${message}

A migration must run on a ledger in use: no step may need the workers to be stopped, and none may lose a row.
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
