"""Writes docs/cli.md from the commands' own help: `make docs`."""

from collections.abc import Iterator
from pathlib import Path

import click

from producer.cli import cli

TARGET = Path(__file__).with_name("cli.md")
INTRODUCTION = """# Command line

Made by `make docs` from the commands' own help.
Exit codes: 0 all done, 1 something failed, 2 the call or the file is wrong and nothing was done.
"""


def describe(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """The help of a command and of the commands below it, as Markdown."""
    context = command.make_context(name, [], parent, resilient_parsing=True, terminal_width=100)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"## {context.command_path}\n\n```text\n{text}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from describe(command.commands[below], below, context)


def generate() -> str:
    """The whole document."""
    return "\n".join([INTRODUCTION, *describe(cli, "promptmill")])


if __name__ == "__main__":
    TARGET.write_text(generate(), encoding="utf-8")
