"""Roots: the folders that pictures may be read from which a job names by path."""

import os
from collections.abc import Iterable
from pathlib import Path

from configs.errors import InvalidParameter


class Roots(tuple[Path, ...]):
    """Folders, and all that is below them."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object) -> "Roots":
        """A list of folders, or text that separates them as PATH does. Raises InvalidParameter."""
        names = value.split(os.pathsep) if isinstance(value, str) else value
        if not isinstance(names, Iterable):
            raise InvalidParameter(f"{value!r} is no list of folders")
        folders = cls(Path(str(name)).expanduser().resolve() for name in names if str(name).strip())
        if not folders:
            raise InvalidParameter("it names no folder; leave it out for the default")
        return folders

    def admit(self, path: Path) -> Path:
        """The path without links and dots. Raises InvalidParameter where that is outside."""
        try:
            found = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise InvalidParameter(f"{path} leads nowhere: {error}") from error
        if any(found.is_relative_to(folder) for folder in self):
            return found
        allowed = ", ".join(map(str, self))
        raise InvalidParameter(f"{path} is outside the folders that init images are read from: {allowed} (init_roots)")
