"""Wildcards: lists of texts in a folder, by name. Nothing outside the folder is read.

``nature/trees.txt`` is ``nature/trees``, with a text a line; lines that begin with ``#`` are comments. In ``.yaml`` and
``.json`` files the keys are names, and a list without keys has the file's name. ``2::red`` has the weight 2.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from producer.errors import InvalidTemplate
from producer.suggestions import suggest

LARGEST = 16 << 20
"""Bytes of a file."""
MOST_FILES = 100_000
MOST_LINES = 1_000_000
"""Of one file, or in one template."""
WEIGHT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})::")
SUFFIXES = (".txt", ".yaml", ".yml", ".json")


class Line(NamedTuple):
    """One of a wildcard's texts. ``number`` is its line in a text file, or its place in a list, from 1."""

    number: int
    text: str
    weight: float = 1.0


class Wildcard(NamedTuple):
    """A list of texts, and the file it is from."""

    name: str
    file: Path
    lines: tuple[Line, ...]
    sha256: str
    """Of the file."""


class Wildcards:
    """Those of a folder. Raises InvalidTemplate where that is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        if not self.folder.is_dir():
            raise InvalidTemplate(f"{folder} is no folder of wildcards; give one with --wildcards")
        self.find = lru_cache(4096)(self._find)
        self._digest = lru_cache(4096)(_digest)

    def _find(self, pattern: str) -> tuple[tuple[Wildcard, ...], str]:
        """All whose names are the pattern's, ``*`` being any part of a name and ``**`` any path; or what is wrong."""
        if ".." in pattern or pattern.startswith("/") or "\\" in pattern:
            return (), f"__{pattern}__ leads out of the folder of wildcards; give a name in it"
        names = self._matching(pattern) or self._matching(f"**/{pattern}")
        if not names:
            return (), f"there is no wildcard __{pattern}__; {self._advice(pattern)}"
        try:
            found = tuple(self._open(name) for name in names)
        except InvalidTemplate as error:
            return (), str(error)
        if not any(wildcard.lines for wildcard in found):
            return (), f"the wildcard __{pattern}__ is empty; give it a line"
        return found, ""

    def _matching(self, pattern: str) -> list[str]:
        if "*" not in pattern:
            return [pattern] if pattern in self._places else []
        parts = {"**": ".*", "*": "[^/]*"}
        wanted = re.compile("".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*?)", pattern)))
        return sorted(filter(wanted.fullmatch, self._places))

    def _advice(self, pattern: str) -> str:
        broken = "".join(f"; {reason}" for reason in self._broken[:3])
        return suggest(pattern, self._places, f"{self.folder} has {len(self._places)} others") + broken

    def _open(self, name: str) -> Wildcard:
        file = self._places[name]
        if file.suffix == ".txt":
            return Wildcard(name, file, tuple(_text_lines(file)), self._digest(file))
        return Wildcard(name, file, tuple(self._lists(file)[name]), self._digest(file))

    @cached_property
    def _places(self) -> dict[str, Path]:
        """The file of each name."""
        places: dict[str, Path] = {}
        for file in self._files():
            if file.suffix == ".txt":
                places[file.relative_to(self.folder).with_suffix("").as_posix()] = file
                continue
            try:
                places.update(dict.fromkeys(self._lists(file), file))
            except InvalidTemplate as error:
                self._broken.append(str(error))
        return places

    @cached_property
    def _broken(self) -> list[str]:
        """What is wrong with files whose names nobody can know."""
        return []

    def _files(self) -> Iterator[Path]:
        """All files of wildcards, without those that links lead out to."""
        number = 0
        for folder, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                number += 1
                if number > MOST_FILES:
                    raise InvalidTemplate(f"{self.folder} holds more than {MOST_FILES} files; give a smaller folder")
                file = Path(folder, name)
                if file.suffix in SUFFIXES and file.resolve().is_relative_to(self.folder):
                    yield file

    def _lists(self, file: Path) -> dict[str, list[Line]]:
        """The lists of a YAML or JSON file, by their full names. Raises InvalidTemplate."""
        above = file.parent.relative_to(self.folder).parts
        found = dict[str, list[Line]]()
        for keys, items in _walk(_structure(file), (), file):
            name = "/".join((*above, *(keys or (file.stem,))))
            found[name] = list(_list_lines(items, f"{file}: {name}"))
        return found


def split_weight(text: str) -> tuple[float, str]:
    """``2::red`` is red with the weight 2."""
    found = WEIGHT.match(text)
    return (float(found[1]), text[found.end() :]) if found else (1.0, text)


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST:
            raise InvalidTemplate(f"{file} is larger than {LARGEST >> 20} MB; give a shorter list")
        return file.read_bytes()
    except OSError as error:
        raise InvalidTemplate(f"{file} cannot be read: {error.strerror or error}") from error


def _digest(file: Path) -> str:
    return hashlib.sha256(_read(file)).hexdigest()


def _decode(file: Path) -> str:
    try:
        return _read(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTemplate(f"{file} is not valid UTF-8; save it as UTF-8") from error


def _text_lines(file: Path) -> Iterator[Line]:
    for number, line in enumerate(_decode(file).splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            weight, text = split_weight(text)
            yield Line(number, text, weight)


def _structure(file: Path) -> Any:
    text = _decode(file)
    try:
        if file.suffix == ".json":
            return json.loads(text)
        # PyYAML's safe loader, of C where there is one.
        return msgspec.yaml.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidTemplate(f"{file} is not valid: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _walk(value: Any, keys: tuple[str, ...], file: Path) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """The lists in a structure, with their keys. What is no list is passed over, as dynamicprompts does."""
    waiting, seen = [(keys, value)], 0
    while waiting:
        keys, value = waiting.pop()
        seen += 1
        if seen > MOST_FILES:
            raise InvalidTemplate(f"{file} holds more than {MOST_FILES} lists; give a smaller file")
        if isinstance(value, dict):
            waiting += [((*keys, str(key)), inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list | str):
            yield keys, value if isinstance(value, list) else [value]


def _list_lines(items: list[Any], place: str) -> Iterator[Line]:
    if len(items) > MOST_LINES:
        raise InvalidTemplate(f"{place} has more than {MOST_LINES} entries; give a shorter list")
    for number, item in enumerate(items, 1):
        weight, text = _item(item, f"{place}, entry {number}")
        if text.strip():
            yield Line(number, text.strip(), weight)


def _item(item: Any, place: str) -> tuple[float, str]:
    if isinstance(item, dict):
        text, weight = item.get("text", item.get("content")), item.get("weight", 1)
        if isinstance(text, str) and isinstance(weight, int | float) and 0 <= weight < float("inf"):
            return float(weight), text
    elif isinstance(item, str):
        return split_weight(item)
    elif isinstance(item, int | float) and not isinstance(item, bool):
        return 1.0, str(item)
    raise InvalidTemplate(f"{place} is no text; give text, or an object with text and weight")
