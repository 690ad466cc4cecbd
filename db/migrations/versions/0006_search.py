"""Full text over prompts.

In SQLite the index is written when somebody searches (`db.job_text`), and corrected when a job is deleted, whose id
may be given again. In PostgreSQL the database keeps it.
"""

from alembic import op
from sqlalchemy.exc import OperationalError

from db.errors import SqliteUnfit

revision = "0006"
down_revision = "0005"

TABLE = """
    CREATE VIRTUAL TABLE job_text USING fts5(prompt, negative_prompt,
        content='job', content_rowid='id', tokenize='unicode61 remove_diacritics 2')
"""
GONE = """
    CREATE TRIGGER job_text_gone AFTER DELETE ON job
    WHEN EXISTS (SELECT 1 FROM job_text_docsize WHERE id = old.id)
    BEGIN
        INSERT INTO job_text (job_text, rowid, prompt, negative_prompt)
        VALUES ('delete', old.id, old.prompt, old.negative_prompt);
    END
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _index_sqlite()
    else:
        for name in ("prompt", "negative_prompt"):
            vector = f"to_tsvector('simple'::regconfig, {name})"
            op.execute(f"CREATE INDEX job_text_{name} ON job USING gin ({vector})")


def _index_sqlite() -> None:
    try:
        op.execute(TABLE)
    except OperationalError as error:
        if "fts5" not in str(error.orig):
            raise
        raise SqliteUnfit(
            "This SQLite cannot search text: it lacks FTS5. `pip install pysqlite3` brings one that has it."
        ) from error
    op.execute(GONE)
