"""The commands of docs/operations.md exist, with their flags."""

import re
from pathlib import Path

import click

from producer.cli import cli

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
CALL = re.compile(r"^promptmill ([a-z].*?)(?:  +#.*)?$|`promptmill ([a-z][^`]*)`", re.MULTILINE)


def find_command(words: list[str]) -> click.Command:
    """The command that the first words name; they are taken away."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    return command


def test_every_command_exists_with_its_flags() -> None:
    calls = [found[1] or found[2] for found in CALL.finditer(TEXT)]
    assert len(calls) > 10
    for call in calls:
        words = call.split()
        command = find_command(words)
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, call
