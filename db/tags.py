"""Tags of jobs in conditions: a value by its name, whatever characters that has."""

from sqlalchemy import ColumnElement, Engine

from db.models import Job


def tag(engine: Engine, name: str) -> ColumnElement[str]:
    """A job's tag of that name; null without it."""
    if engine.dialect.name == "sqlite":
        # It stands between quotes in a path there, with the escapes of JSON.
        name = name.replace("\\", "\\\\").replace('"', '\\"')
    found: ColumnElement[str] = Job.tags[name].as_string()
    return found
