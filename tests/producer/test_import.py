"""Folders of pictures become part of the history."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from db import adoption, notices
from db.ledger import Ledger
from worker.images import save_image

Call = Callable[..., Result]
INFOTEXT = (
    "a castle\nNegative prompt: fog\nSteps: 30, Sampler: Euler a, CFG scale: 6.5, Seed: 42, Size: 16x16, Model: v1"
)
RECORD = {
    "prompt": "a lake", "negative_prompt": "", "model": "demo", "sampler": "DDIM", "steps": 20, "scale": 7.5,
    "width": 64, "height": 64, "seed": 5, "strength": 0.75, "eta": 0.0, "checkpoint_hash": "0" * 64, "worker": "gpu0",
    "seconds": 1.5, "job": 12, "tags": {"category": "Places"},
}  # fmt: skip


def noise(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of A1111, two of ours, one that says nothing, one that is none, and the first one once more, below."""
    folder = tmp_path / "Old pictures"
    (folder / "below").mkdir(parents=True)
    info = PngInfo()
    info.add_text("parameters", INFOTEXT)
    for name in ("a.png", "below/again.png"):
        Image.fromarray(noise(1)).save(folder / name, pnginfo=info)
    save_image(noise(2), folder / "b.png", metadata=RECORD)
    save_image(noise(3), folder / "c.jpg", metadata={**RECORD, "seed": 6})
    Image.fromarray(noise(4)).save(folder / "d.webp")
    (folder / "e.png").write_bytes(b"no picture")
    return folder


def rows(promptmill: Call, *query: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in promptmill("history", *query, "--json").stdout.splitlines()]


def test_a_folder_is_imported_once(promptmill: Call, folder: Path) -> None:
    first = promptmill("history", "import", folder, "--recursive")
    assert first.exit_code == 1
    assert "3 imported as batch 1, 1 known already, 1 without a recipe, 1 unreadable." in first.output
    assert "e.png cannot be read" in first.output
    again = promptmill("history", "import", folder, "--recursive")
    assert "0 imported, 4 known already" in again.output
    assert len(rows(promptmill)) == 3


def test_nobody_is_told_of_what_is_imported(promptmill: Call, folder: Path, home_ledger: Ledger) -> None:
    promptmill("history", "import", folder)
    assert not notices.ended(home_ledger.engine)


def test_what_is_imported_is_found_and_whole(promptmill: Call, folder: Path) -> None:
    promptmill("history", "import", folder, "--tag", "from=disk")
    (found,) = rows(promptmill, "castle", "seed:42", "steps:30", "scale>6", "tag.from:disk", "tag.tool:A1111")
    assert (found["sampler"], found["model"], found["state"]) == ("Euler a", "v1", "succeeded")
    (own,) = rows(promptmill, "lake", "seed:5", "tag.category:Places", "worker:gpu0")
    assert own["image_seconds"] == 1.5
    checked = promptmill("fsck", "--deep")
    assert checked.exit_code == 0, checked.output


def test_files_stay_and_their_copies_are_the_same(promptmill: Call, folder: Path, home: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    promptmill("history", "import", folder)
    assert {path: path.read_bytes() for path in before} == before
    copies = {path.read_bytes() for path in (home / "images/0001-import-old-pictures").iterdir()}
    assert copies == {before[folder / name] for name in ("a.png", "b.png", "c.jpg")}


@pytest.mark.parametrize(("is_recorded", "left"), [(True, 4), (False, 0)])
def test_an_interrupt_leaves_all_or_nothing(
    promptmill: Call, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, is_recorded: bool, left: int
) -> None:
    adopt = adoption.adopt

    def interrupted(*given: Any) -> None:
        if is_recorded:
            adopt(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(adoption, "adopt", interrupted)
    promptmill("history", "import", folder, "--bare")
    assert len(promptmill("history", "--json").stdout.splitlines()) == left
    assert len([path for path in (home / "images").rglob("*") if path.is_file()]) == left


def test_a_dry_run_leaves_nothing(promptmill: Call, folder: Path, home: Path) -> None:
    assert "3 to import" in promptmill("history", "import", folder, "--dry-run").output
    assert rows(promptmill) == []
    assert not list((home / "images").glob("*-import-*"))


def test_bare_images_are_imported_by_option(promptmill: Call, folder: Path) -> None:
    promptmill("history", "import", folder, "--bare")
    assert [row["prompt"] for row in rows(promptmill)].count("") == 1


def test_what_is_imported_is_exported(promptmill: Call, folder: Path, tmp_path: Path) -> None:
    promptmill("history", "import", folder)
    exported = promptmill("export", "seed:5,6,42", "--to", "imagefolder", tmp_path / "out")
    assert exported.exit_code == 0, exported.output
    assert len([path for path in (tmp_path / "out").rglob("*.*") if path.suffix in (".png", ".jpg")]) == 3


def test_files_of_another_ledger_are_left_alone(promptmill: Call, folder: Path, home: Path) -> None:
    older = home / "images/0001-import-old-pictures"
    older.mkdir(parents=True)
    (older / "00000001-42.png").write_bytes(b"another's")
    assert "3 imported" in promptmill("history", "import", folder).output
    assert (older / "00000001-42.png").read_bytes() == b"another's"
    assert promptmill("fsck").exit_code == 0


def test_what_says_no_steps_is_not_made_again(promptmill: Call, folder: Path) -> None:
    promptmill("history", "import", folder, "--bare")
    (found,) = rows(promptmill, "steps:0")
    refused = promptmill("rerun", found["id"], "--submit")
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output


def test_an_image_of_the_images_folder_is_known(promptmill: Call, folder: Path, home: Path) -> None:
    promptmill("history", "import", folder)
    again = promptmill("history", "import", home / "images", "--recursive")
    assert "0 imported, 3 known already" in again.output
