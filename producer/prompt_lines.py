"""The prompts file of an original script: each line a prompt, and how the lines share batches."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from configs.errors import ConfigError
from configs.parameters import read_text
from producer.errors import InvalidPromptFile
from producer.problems import Report


class PromptLine(NamedTuple):
    """A prompt, and its line in the file."""

    number: int
    prompt: str


Chunk = tuple[PromptLine, ...]
"""The prompts of one batch of the script, an image each."""


def read_lines(path: Path) -> list[PromptLine]:
    """All lines; an empty one is the empty prompt, as in the scripts. Raises InvalidPromptFile."""
    report = Report(str(path), 100)
    lines = [PromptLine(number, text) for number, text in enumerate(_read(path, report).splitlines(), 1)]
    if not (lines or report.total):
        report.add(0, "", "is empty; give a prompt a line")
    for line in lines:
        try:
            read_text(line.prompt)
        except ConfigError as error:
            report.add(line.number, "prompt", str(error))
    if report.total:
        raise InvalidPromptFile(report.problems, report.total)
    return lines


def chunks_in_order(lines: Sequence[PromptLine], size: int) -> list[Chunk]:
    """CompVis: ``size`` different lines a batch, in the file's order; the last batch may be shorter."""
    return list(_chunks(lines, size))


def chunks_sorted(lines: Sequence[PromptLine], size: int) -> list[Chunk]:
    """The fork: every line ``size`` times, sorted, so that a batch has one prompt."""
    return list(_chunks(sorted(list(lines) * size, key=lambda line: line.prompt), size))


def _chunks(lines: Sequence[PromptLine], size: int) -> Iterator[Chunk]:
    remaining = iter(lines)
    while chunk := tuple(islice(remaining, size)):
        yield chunk


def _read(path: Path, report: Report) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        report.add(0, "", "is not valid UTF-8; save the file as UTF-8")
    except OSError as error:
        report.add(0, "", f"cannot be read: {error.strerror or error}; --from-file takes a file with a prompt a line")
    return ""
