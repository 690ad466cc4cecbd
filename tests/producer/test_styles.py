"""Styles: read and applied as A1111 does."""

from pathlib import Path

import pytest

from producer.errors import InvalidPromptFile, InvalidTemplate
from producer.styles import Styles, merge

FILE = """\ufeffname,prompt,negative_prompt
# a heading,,
Photo,"photo of {prompt}, sharp",drawing
"Oil, old","oil painting,
cracked",
Plain,,
Photo,"photograph of {prompt}",sketch
"""


@pytest.fixture
def styles(tmp_path: Path) -> Styles:
    path = tmp_path / "styles.csv"
    path.write_text(FILE, encoding="utf-8")
    return Styles(path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ("a cat", "ugly")),
        (["Plain"], ("a cat", "ugly")),
        (["Photo"], ("photograph of a cat", "ugly, sketch")),
        (["Oil, old"], ("a cat, oil painting,\ncracked", "ugly")),
        (["Oil, old", "Photo"], ("photograph of a cat, oil painting,\ncracked", "ugly, sketch")),
    ],
)
def test_each_goes_around_what_the_one_before_made(styles: Styles, names: list[str], expected: tuple[str, str]) -> None:
    assert styles.apply(names, "a cat", "ugly") == expected


def test_a_text_is_no_format_string() -> None:
    assert merge("{prompt} {0} {x.__class__} %s", "{prompt}") == "{prompt} {0} {x.__class__} %s"


def test_a_cell_holds_one_name_or_several(styles: Styles) -> None:
    assert styles.split(" Oil, old ") == ["Oil, old"]
    assert styles.split("Photo, Plain") == ["Photo", "Plain"]
    with pytest.raises(InvalidTemplate, match=r"^'photo' is no style; did you mean Photo\?$"):
        styles.split("Plain, photo")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "styles.csv: has no styles; it needs the columns name, prompt and negative_prompt"),
        (b"a,b\nc,d\n", "styles.csv:1: is no header with the columns name and prompt"),
        (b'name,prompt\na,b\nc,"d\n', "styles.csv:3: is no row of a CSV file: unexpected end of data"),
        (b"name,prompt\na," + b"x" * 8001, "styles.csv:2: a: has 8001 characters; at most 8000 are allowed"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "styles.csv").write_bytes(content)
    with pytest.raises(InvalidPromptFile) as error:
        Styles(tmp_path / "styles.csv")
    assert str(error.value) == f"{tmp_path}/{message}"
