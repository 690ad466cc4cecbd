"""No text of a stranger becomes a path: images lie in a folder directly in the images' root."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import queries
from db.ledger import Ledger
from producer.submit import slug
from worker.errors import PathRefused
from worker.images import image_name, image_path, save_image

Call = Callable[..., Result]
NAMES = [
    "../../etc/cron.d/x", "/etc/passwd", "..", ".", "", "a/../../b", "\\\\host\\share", "C:\\x", "c:x", "CON",
    "nul.txt", "com1", "a\0b", "a\nb", " ", "~root", "$HOME", "%2e%2e%2f", "\uff0e\uff0e\uff0f", "x" * 500, "é", "🦆",
    "-rf", "a:b", "a|b", "file:///x", "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_a_batch_has_a_plain_folder_whatever_its_name(promptmill: Call, home_ledger: Ledger, name: str) -> None:
    assert promptmill("submit", "-", "--name", name, text="a cat\n").exit_code == 0
    folder = queries.find_batch(home_ledger.engine, None).folder
    assert folder.strip("abcdefghijklmnopqrstuvwxyz0123456789-") == ""
    assert folder.startswith("0001")
    assert len(folder) < 50


@given(name=st.text(max_size=200))
@settings(max_examples=300)
def test_a_slug_is_letters_digits_and_dashes(name: str) -> None:
    assert slug(name).strip("abcdefghijklmnopqrstuvwxyz0123456789-") == ""
    assert len(slug(name)) <= 40


@given(folder=st.text(max_size=20) | st.sampled_from(NAMES), name=st.text(max_size=20) | st.sampled_from(NAMES))
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_image_goes_below_the_root_or_nowhere(tmp_path: Path, folder: str, name: str) -> None:
    try:
        found = image_path(tmp_path, folder, name)
    except PathRefused:
        return
    assert found.parent.parent == tmp_path.resolve()
    assert (found.parent.name, found.name) == (folder, name)


@pytest.mark.parametrize("target", ["outside", "outside/deeper", "../", "/etc"])
def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path, target: str) -> None:
    root = tmp_path / "images"
    (tmp_path / "outside" / "deeper").mkdir(parents=True)
    root.mkdir()
    (root / "0001-cats").symlink_to(tmp_path / target)
    with pytest.raises(PathRefused, match="leads out of"):
        image_path(root, "0001-cats", "1.png")


def test_a_link_in_place_of_an_image_is_replaced_and_not_followed(tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_text("gold")
    path = image_path(tmp_path, "0001-cats", image_name(1, 2, "png"))
    path.parent.mkdir()
    path.symlink_to(treasure)
    metadata = {
        "prompt": "x",
        "sampler": "DDIM",
        "steps": 1,
        "scale": 1.0,
        "seed": 1,
        "width": 8,
        "height": 8,
        "model": "demo",
    }
    save_image(np.zeros((8, 8, 3), np.uint8), path, metadata={**metadata, "checkpoint_hash": ""})
    assert (treasure.read_text(), path.is_symlink()) == ("gold", False)


@pytest.mark.parametrize("column", ["prompt", "negative_prompt", "category", "name", "filename", "output", "path"])
def test_a_cell_makes_no_file(promptmill: Call, tmp_path: Path, column: str) -> None:
    rows = [{"prompt": "a cat", column: name} for name in NAMES if name.strip() and "\0" not in name and name.isascii()]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    before = {*tmp_path.iterdir()}
    assert promptmill("submit", "a.jsonl").exit_code == 0
    assert {*tmp_path.iterdir()} - before <= {tmp_path / "home"}
    assert not any(path.is_file() for path in (tmp_path / "home").rglob("*") if ".sqlite3" not in path.name)


@pytest.mark.parametrize("preset", ["../default", "/etc/passwd", "..", "a/b", "A", "x.toml", "\0"])
def test_a_preset_is_a_name_and_no_path(promptmill: Call, preset: str) -> None:
    result = promptmill("submit", "-", "--preset", preset, text="a cat\n")
    assert (result.exit_code, "There is no preset" in result.stderr) == (2, True)


@pytest.mark.parametrize("name", ["../../x", "a/b", "\x1b[31m", "", "a b"])
def test_a_worker_has_a_name_and_no_path(promptmill: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", "redis://127.0.0.1:1")
    started: list[object] = []
    monkeypatch.setattr(os, "execv", lambda *words: started.append(words))
    result = promptmill("worker", "--name", name)
    assert (result.exit_code, started) == (2, [])
