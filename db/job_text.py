"""Full text over prompts: FTS5 in SQLite, an index of ``tsvector`` in PostgreSQL.

SQLite's index is written when somebody searches, and not with each job: a submit costs what it did. As SQLite has one
writer at a time, ids are committed in order, and the largest indexed id tells what is missing. PostgreSQL's writers
are not in order, so there the database itself keeps the index.
"""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, Text, and_, cast, column, func, or_, select, table, text

from db.models import Job
from db.patience import patiently

#: Jobs that are indexed in one transaction: workers wait for it.
SLICE = 5000
_INDEXED = "SELECT coalesce(max(id), 0) FROM job_text_docsize"
_INDEX = text(f"""
    INSERT INTO job_text (rowid, prompt, negative_prompt)
    SELECT id, prompt, negative_prompt FROM job WHERE id > ({_INDEXED}) ORDER BY id LIMIT {SLICE}
""")  # noqa: S608 - constants
_BEHIND = text(f"SELECT coalesce((SELECT max(id) FROM job), 0) > ({_INDEXED})")  # noqa: S608 - constants
_FOUND: Any = table("job_text", column("rowid"), column("job_text"))
#: The id of a job in the index of SQLite.
ROWID: ColumnElement[int] = _FOUND.c.rowid
#: A phrase whose letters are all in a prompt that has its words. PostgreSQL passes over parts of others, as of URLs.
_PLAIN = re.compile(r"[A-Za-z0-9 ,-]+\*?")


def catch_up(engine: Engine) -> None:
    """Index the jobs that were recorded since the last time."""

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(_INDEX)

    while engine.dialect.name == "sqlite" and _is_behind(engine):
        patiently(write)


def _is_behind(engine: Engine) -> bool:
    with engine.connect().execution_options(readonly=True) as connection:
        return bool(connection.execute(_BEHIND).scalar())


def words_match(
    engine: Engine, columns: Sequence[str], phrase: str, *, one_by_one: bool = False
) -> ColumnElement[bool]:
    """Whether the words of the phrase stand together in one of the columns; of the last one, with a *, the start.

    The index of words answers, unless the jobs are to be read one by one.
    """
    if not _has_words(phrase):
        return or_(*(Job[name].contains(phrase, autoescape=True) for name in columns))
    if engine.dialect.name == "sqlite":
        return _in_sqlite(columns, phrase, one_by_one=one_by_one)
    letters = _letters(phrase) if one_by_one else []
    return or_(*(and_(*map(Job[name].ilike, letters), _vector(name).op("@@")(_tsquery(phrase))) for name in columns))


def ids(engine: Engine, columns: Sequence[str], phrases: Sequence[str]) -> Select[Any]:
    """The jobs that have one of the phrases, by the index of words."""
    if engine.dialect.name == "sqlite" and all(map(_has_words, phrases)):
        return select(_FOUND.c.rowid).where(_FOUND.c.job_text.op("MATCH")(_any(columns, phrases)))
    return select(Job.id).where(or_(*(words_match(engine, columns, phrase) for phrase in phrases)))


def _has_words(phrase: str) -> bool:
    return any(map(str.isalnum, phrase))


def _letters(phrase: str) -> list[str]:
    """What a text that has the phrase is like: to see that takes a tenth of the time of finding its words."""
    return [f"%{word}%" for word in re.findall(r"\w+", phrase)] if _PLAIN.fullmatch(phrase) else []


def _in_sqlite(columns: Sequence[str], phrase: str, *, one_by_one: bool) -> ColumnElement[bool]:
    found = select(_FOUND.c.rowid).where(_FOUND.c.job_text.op("MATCH")(_expression(columns, phrase)))
    # Of a sum, the index of words tells whether a job is found, and does not lead.
    return (Job.id + 0 if one_by_one else Job.id).in_(found)


def _expression(columns: Sequence[str], phrase: str) -> str:
    quoted = '"' + phrase.rstrip("*").replace('"', '""') + '"'
    return f"{{{' '.join(columns)}}} : {quoted}{'*' if phrase.endswith('*') else ''}"


def listed(statement: Select[Any], terms: Sequence[tuple[Sequence[str], Sequence[str], bool]]) -> Select[Any]:
    """In SQLite: a select of jobs, led by the index of words, which is in order of id already.

    Of each term, (columns, phrases, excluded), one phrase must be found, or none. One term at least is not excluded.
    """
    wanted, unwanted = ([_any(*term) for *term, excluded in terms if excluded == kind] for kind in (False, True))
    match = " NOT ".join((f"({' AND '.join(wanted)})", *unwanted))
    joined = statement.join(_FOUND, _FOUND.c.rowid == Job.id)
    return joined.where(_FOUND.c.job_text.op("MATCH")(match))


def _any(columns: Sequence[str], phrases: Sequence[str]) -> str:
    return f"({' OR '.join(_expression(columns, phrase) for phrase in phrases)})"


def _vector(name: str) -> ColumnElement[Any]:
    return func.to_tsvector(text("'simple'::regconfig"), Job[name])


def _tsquery(phrase: str) -> ColumnElement[Any]:
    words = func.phraseto_tsquery(text("'simple'::regconfig"), phrase.rstrip("*"))
    if not phrase.endswith("*"):
        return words
    # Its text ends with the last word in quotes.
    return func.to_tsquery(text("'simple'::regconfig"), cast(words, Text).concat(":*"))
