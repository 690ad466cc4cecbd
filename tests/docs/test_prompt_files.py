import re
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from configs.parameters import PARAMETERS
from producer.columns import ALIASES, make_column

PAGE = (Path(__file__).parents[2] / "docs" / "prompt-files.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
BLOCKS = re.findall(r"```\w+\n(.*?)```", PAGE, re.DOTALL)


def test_every_alias_is_on_the_page_and_the_reverse() -> None:
    documented = {name: set(re.findall(r"`(\w+)`", aliases)) for name, aliases in ROWS.items()}
    assert documented == {name: set(words.split()) for name, words in ALIASES.items()}


def test_every_parameter_is_on_the_page() -> None:
    assert set(PARAMETERS) <= set(ROWS)


def test_headings_are_read_as_the_page_says() -> None:
    assert make_column("CFG Scale", Path()).name == "scale"
    assert make_column("category", Path()).name == ""


def test_the_first_example_is_right(promptmill: Callable[..., Result]) -> None:
    Path("prompts.csv").write_text(BLOCKS[0], encoding="utf-8")
    assert promptmill("submit", "prompts.csv").exit_code == 0


def test_the_errors_are_what_the_page_shows(promptmill: Callable[..., Result]) -> None:
    rows = next(block for block in BLOCKS if "zero" in block)
    shown = next(block for block in BLOCKS if "bad.csv:3" in block)
    Path("bad.csv").write_text(rows, encoding="utf-8")
    result = promptmill("submit", "bad.csv")
    assert (result.exit_code, result.output) == (2, shown.removeprefix("$ promptmill submit bad.csv\n"))
