"""Wildcards: what a folder holds, and nothing outside it."""

import hashlib
from pathlib import Path

import pytest

from producer.errors import InvalidTemplate
from producer.wildcards import LARGEST, Line, Wildcards


def lines(folder: Path, name: str) -> list[Line]:
    found, problem = Wildcards(folder).find(name)
    assert problem == ""
    return [line for wildcard in found for line in wildcard.lines]


def problem(folder: Path, name: str) -> str:
    found, problem = Wildcards(folder).find(name)
    assert found == ()
    return problem


def test_a_text_file_has_a_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfred \r\n# no\r\n\r\n2.5::gr\xc3\xbcn\r\n")
    assert lines(tmp_path, "a") == [(1, "red", 1.0), (4, "grün", 2.5)]


def test_keys_are_names_under_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.json").write_text(
        '{"deep": {"er": ["a", {"text": "b", "weight": 2}, 3]}, "no": 4, "one": "z"}'
    )
    (tmp_path / "list.json").write_text('["a"]')
    assert lines(tmp_path, "x/deep/er") == [(1, "a", 1.0), (2, "b", 2.0), (3, "3", 1.0)]
    assert lines(tmp_path, "list") == lines(tmp_path, "deep/er")[:1] == [(1, "a", 1.0)]
    assert problem(tmp_path, "x/no") == "there is no wildcard __x/no__; did you mean x/one?"


def test_a_star_is_any_part_of_a_name_and_two_any_path(tmp_path: Path) -> None:
    for name in ("a1.txt", "a2.txt", "deep/a3.txt", "b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [text for _, text, _ in lines(tmp_path, "a*")] == ["a1.txt", "a2.txt"]
    assert [text for _, text, _ in lines(tmp_path, "**a*")] == ["a1.txt", "a2.txt", "deep/a3.txt"]


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("red\n")
    ((wildcard,), _) = Wildcards(tmp_path).find("a")
    assert wildcard.sha256 == hashlib.sha256(b"red\n").hexdigest()


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "real.txt").write_text("real")
    for name, target in (
        ("out.txt", tmp_path / "secret.txt"),
        ("also.txt", tmp_path / "in" / "real.txt"),
        ("up", tmp_path),
    ):
        (tmp_path / "in" / name).symlink_to(target)
    assert lines(tmp_path / "in", "also") == [(1, "real", 1.0)]
    assert problem(tmp_path / "in", "out").startswith("there is no wildcard __out__")
    assert problem(tmp_path / "in", "up/secret").startswith("there is no wildcard __up/secret__")
    assert "leads out of the folder" in problem(tmp_path / "in", "../secret")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff", "a.txt is not valid UTF-8; save it as UTF-8"),
        ("b.json", b"{", "b.json is not valid: Expecting property name"),
        ("b.json", b"[" * 100_000, "b.json is not valid: maximum recursion depth exceeded"),
        ("b.yaml", b"a: [1", "b.yaml is not valid: while parsing a flow sequence"),
        ("b.yaml", b"a: [[1]]", "b.yaml: a, entry 1 is no text; give text, or an object with text and weight"),
        ("b.yaml", b"!!python/object/apply:os.system [ls]", "b.yaml is not valid: could not determine a constructor"),
    ],
)
def test_what_cannot_be_read_is_said_when_it_is_wanted(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in problem(tmp_path, "a")


def test_a_list_in_itself_a_thousand_million_times_over_is_refused(tmp_path: Path) -> None:
    levels = [
        "a0: &a0 {x: [b]}",
        *(f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 10)),
    ]
    (tmp_path / "a.yaml").write_text("\n".join(levels))
    assert "holds more than 100000 lists" in problem(tmp_path, "zzz")


def test_a_file_too_large_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(LARGEST + 1)
    assert problem(tmp_path, "a").endswith("a.txt is larger than 16 MB; give a shorter list")


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidTemplate, match="is no folder of wildcards"):
        Wildcards(tmp_path / "no")
