"""What the documents name exists: files, links, commands, flags."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from producer.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:configs|db|producer|worker|docs|tests|benchmarks)/[\w./*-]*|\w+\.(?:yaml|md))`")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
#: A command with what follows on its line.
COMMAND = re.compile(r"(?<![\w-])promptmill ([a-z][a-z0-9 ]*)([^\n`;]*)")
FLAG = re.compile(r"(?<!\S)--[\w-]+")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link and not link.startswith("#")]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = FILE.findall(page.read_text("utf-8"))
    assert [
        path for path in named if not any(found for folder in (ROOT, page.parent) for found in folder.glob(path))
    ] == []


@each_page
def test_every_command_that_is_named_exists(page: Path) -> None:
    assert [words for words, command, _ in commands(page) if command is None] == []


@each_page
def test_every_flag_that_is_named_exists(page: Path) -> None:
    wrong = [
        (words, flag)
        for words, command, flags in commands(page)
        for flag in flags
        if command and not any(flag in parameter.opts for parameter in command.params) and flag != "--help"
    ]
    assert wrong == []


def commands(page: Path) -> Iterator[tuple[str, click.Command | None, list[str]]]:
    """Each command line of the page: its words, the command they name, its flags."""
    for code in CODE.findall(page.read_text("utf-8")):
        for words, rest in COMMAND.findall(code):
            yield words, find(words.split()), FLAG.findall(rest)


def find(words: list[str]) -> click.Command | None:
    found: click.Command | None = cli
    while isinstance(found, click.Group) and words:
        inner, words = found.commands.get(words[0]), words[1:]
        if inner is None and found.invoke_without_command:
            # The words are its own arguments.
            return found
        found = inner
    return found
