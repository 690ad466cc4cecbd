"""The file of what was measured: kept, shared, and never in the way."""

import logging
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from worker.profile import Findings, Profile, Setup, Speed


def make_setup(width: int = 512) -> Setup:
    return Setup(device="cpu", memory=None, checkpoint="abc", dtype="float32", width=width, height=512, torch="2")


def note_speeds(path: Path, start: int) -> None:
    """Write twenty lines of one setup and one of another, each alone."""
    profile = Profile(path)
    for rows in range(start, start + 20):
        profile.learn(make_setup(), speeds={rows: Speed(float(rows), 0)})
    profile.learn(make_setup(width=start), settled=start)


def test_what_was_found_outlives_the_process(tmp_path: Path) -> None:
    Profile(tmp_path / "profile.json").learn(make_setup(), settled=8)
    assert Profile(tmp_path / "profile.json").read(make_setup()).settled == 8


def test_another_setup_is_another_line(tmp_path: Path) -> None:
    profile = Profile(tmp_path / "profile.json")
    profile.learn(make_setup(), settled=8)
    assert profile.read(make_setup(width=768)) == Findings()


def test_processes_that_write_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "profile.json"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for writer in [pool.submit(note_speeds, path, start) for start in (100, 200)]:
            writer.result()
    assert set(Profile(path).read(make_setup()).speeds) == {*range(100, 120), *range(200, 220)}
    assert [Profile(path).read(make_setup(width=start)).settled for start in (100, 200)] == [100, 200]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"x": {"settled": "many"}}'])
def test_a_damaged_file_is_ignored_with_a_warning_and_begun_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(content)
    assert Profile(path).read(make_setup()) == Findings()
    assert "cannot be read" in caplog.text
    Profile(path).learn(make_setup(), settled=8)
    assert Profile(path).read(make_setup()).settled == 8


def test_a_place_where_nothing_can_be_written_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        Profile(tmp_path / "file" / "profile.json").learn(make_setup())
    assert "cannot be kept" in caplog.text
