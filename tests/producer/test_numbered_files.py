"""Numbered files: nobody's file is ever overwritten."""

import errno
import os
import subprocess
import sys
import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.numbered_files import NumberedFiles, draft, folder_name

WRITER = """
import sys
from pathlib import Path
from producer.numbered_files import NumberedFiles
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
for number in range(100):
    path = source / f"{sys.argv[3]}-{number}.png"
    path.write_text(path.name)
    NumberedFiles(folder, digits=5).add(path) if number % 10 == 0 else files.add(path)
    files = NumberedFiles(folder, digits=5) if number % 10 == 0 else files
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    path.write_text("new")
    return path


def test_numbers_count_up(tmp_path: Path, source: Path) -> None:
    files = NumberedFiles(tmp_path / "samples", digits=5)
    assert [files.add(source).name for _ in range(3)] == ["00000.png", "00001.png", "00002.png"]


def test_a_gap_is_not_filled(tmp_path: Path, source: Path) -> None:
    for name in ("00000.png", "00007.jpg", "notes.txt", "grid-0099.png", "99999999999999999999.png"):
        (tmp_path / name).write_text("old")
    assert NumberedFiles(tmp_path, digits=5).add(source).name == "00008.png"


def test_a_name_that_is_taken_meanwhile_is_left_alone(tmp_path: Path, source: Path) -> None:
    files = NumberedFiles(tmp_path, digits=5)
    (tmp_path / "00000.png").write_text("old")
    assert files.add(source).name == "00001.png"
    assert (tmp_path / "00000.png").read_text() == "old"


def test_without_hard_links_the_file_is_copied(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "00000.png").write_text("old")
    files = NumberedFiles(tmp_path / "other", digits=5)
    assert [files.add(source).read_text() for _ in range(2)] == ["new", "new"]
    files = NumberedFiles(tmp_path, digits=5)
    (tmp_path / "00001.png").write_text("old")
    assert files.add(source).name == "00002.png"
    assert (tmp_path / "00001.png").read_text() == "old"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.png"):
        NumberedFiles(tmp_path / "samples", digits=5).add(tmp_path / "missing.png")
    assert list((tmp_path / "samples").iterdir()) == []


def test_two_processes_make_200_files_of_200(tmp_path: Path) -> None:
    """And files are deleted in between."""
    folder = tmp_path / "samples"
    for name in ("a", "b"):
        command = [sys.executable, "-c", WRITER, tmp_path, folder]
        writers = [subprocess.Popen([*command, f"{name}{number}"]) for number in range(2)]
        assert [writer.wait(60) for writer in writers] == [0, 0]
        present = sorted(folder.iterdir())
        assert len({path.read_text() for path in present}) == len(present) == 200
        for path in present[50:]:
            path.unlink()
        for path in present[:50]:
            path.rename(tmp_path / path.name)


def test_a_draft_is_gone_when_it_has_its_name(tmp_path: Path) -> None:
    with draft(tmp_path, ".png") as path:
        path.write_text("grid")
        NumberedFiles(tmp_path, head="grid-", digits=4).add(path, "grid-")
    assert [path.name for path in tmp_path.iterdir()] == ["grid-0000.png"]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red circle", "a_red_circle"),
        ('Title: a/castle? "x" * |', "Title__a_castle___x_____"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("con", "_con"),
        ("com1.txt", "_com1.txt"),
        ("ends with a dot.", "ends_with_a_dot"),
        ("", "_"),
        (" . ", "_._"),
        ("🎨 art", "🎨_art"),
        ("a\x00\x1b[2Jb", "a__[2Jb"),
    ],
)
def test_a_prompt_becomes_a_folder(prompt: str, name: str) -> None:
    assert folder_name(prompt) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_any_prompt_is_a_legal_name_on_windows_and_linux(prompt: str) -> None:
    name = folder_name(prompt)
    assert 0 < len(name.encode()) <= 255
    assert len(name) <= 121
    assert not set(name) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(c) == "Cc" for c in name)
    assert name[-1] not in ". "
    assert PureWindowsPath(name).name == name
    assert not PureWindowsPath(name).is_reserved()
