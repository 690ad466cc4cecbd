"""Every example of the page is made, and gives what is shown."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from click.testing import Result

from producer.template_reader import TemplateReader
from producer.templates import Reading
from producer.wanted import FLAGS
from producer.wildcards import Wildcards

PAGE = (Path(__file__).parents[2] / "docs" / "templates.md").read_text(encoding="utf-8")
FILES = re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
TEMPLATES = re.findall(r"^```template\n(.*?)\n```\n\n```prompts\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    re.findall(r"^\$ promptmill (.*?)\n((?:[^$\n].*\n)*)", block, re.MULTILINE)
    for block in re.findall(r"^```console\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
]


@pytest.fixture
def files(home: Path) -> None:
    """Those that the page shows."""
    for name, text in FILES:
        path = home.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("files")
def test_every_command_answers_as_is_shown(promptmill: Callable[..., Result]) -> None:
    assert len(FILES) == 7
    for command, shown in (example for block in COMMANDS for example in block):
        output = promptmill(*shlex.split(command)).output
        assert [line for line in shown.splitlines() if line not in output] == [], command


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("template", "prompts"), TEMPLATES)
def test_every_template_becomes_the_prompts_shown(template: str, prompts: str) -> None:
    node = TemplateReader("combinatorial", Wildcards(Path("wildcards"))).read(template).node
    assert list(node.texts(Reading(Random(1)))) == prompts.splitlines()


def test_every_flag_is_on_the_page() -> None:
    assert [flag for flag in FLAGS if f"--{flag.replace('_', '-')}" not in PAGE] == []
