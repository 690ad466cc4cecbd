"""What becomes of a picture on its way to disk: checked, hidden, marked, and with or without a record."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs.infotext import parse_infotext
from configs.parameters import Parameters
from configs.settings import Settings
from configs.watermark import is_marked
from db import queries
from db.black_box import BlackBox
from db.ledger import Ledger
from tests.db.conftest import batch, ledger  # noqa: F401 - fixtures
from tests.worker.pipelines import save_checker
from worker.breaker import Breaker
from worker.images import hash_pixels, read_metadata
from worker.leases import Leases
from worker.renderers import open_engine
from worker.tasks import ChunkRunner

Render = Callable[..., Any]
SMALL = {"steps": 2, "width": 32, "height": 32}


@pytest.fixture
def render(ledger: Ledger, batch: Any, checkpoint_folder: Path, tmp_path: Path) -> Iterator[Render]:  # noqa: F811
    """Makes one job under settings; returns it with its image, and the image's pixels."""
    with ExitStack() as stack:

        def make(job: dict[str, Any] | None = None, **choices: Any) -> tuple[Any, Any]:
            settings = Settings(home=tmp_path, device="cpu", disk_watermark_mb=0, **choices)
            settings.images_root.mkdir(exist_ok=True)
            engine = open_engine(settings)
            stack.callback(engine.close, finish=False)
            leases = stack.enter_context(Leases(ledger, settings.lease_seconds))
            parts = {"ledger": ledger, "leases": leases, "engine": engine, "send": lambda _: None}
            watch = {"box": BlackBox(tmp_path / "test.box"), "breaker": Breaker(settings.max_failures)}
            ids = batch({"model": str(checkpoint_folder), **SMALL, **(job or {})})
            ChunkRunner(settings=settings, name="w@here", **parts, **watch).render_chunk(ids)
            found = queries.find_job(ledger.engine, ids[0])
            with Image.open(settings.images_root / found.image_path) as image:
                return found, np.asarray(image.convert("RGB"))

        yield make


@pytest.fixture
def checker(tmp_path: Path) -> Callable[[float], str]:
    """A checker to which every picture is unsafe (a threshold of -1), or none (1)."""
    return lambda threshold: str(save_checker(tmp_path / f"checker{threshold}", threshold=threshold))


@pytest.mark.parametrize("safety", ["flag", "blur", "black"])
def test_an_unsafe_picture_is_flagged_and_hidden(render: Render, checker: Any, safety: str) -> None:
    _, plain = render()
    found, pixels = render(safety=safety, safety_checker=checker(-1.0))
    assert (found.state.value, found.image_flagged) == ("succeeded", "unsafe")
    assert found.image_safety_score > 0
    assert found.image_sha256 == hash_pixels(pixels)
    hidden = {"flag": np.array_equal(pixels, plain), "blur": pixels.std() < plain.std(), "black": not pixels.any()}
    assert hidden[safety]


def test_a_safe_picture_has_a_score_and_no_flag(render: Render, checker: Any) -> None:
    _, plain = render()
    found, pixels = render(safety="black", safety_checker=checker(1.0))
    assert found.image_flagged is None
    assert found.image_safety_score < 0
    assert np.array_equal(pixels, plain)


def test_flag_and_score_are_empty_while_safety_is_off(render: Render) -> None:
    found, _ = render()
    assert (found.image_flagged, found.image_safety_score) == (None, None)


def test_an_image_is_marked_before_its_pixels_are_hashed(render: Render) -> None:
    found, pixels = render({"width": 256, "height": 256}, watermark=True)
    assert found.image_watermark
    assert is_marked(pixels)
    assert found.image_sha256 == hash_pixels(pixels)


def test_a_small_image_is_not_marked_and_the_log_says_so(render: Render, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, plain = render()
    found, pixels = render(watermark=True)
    assert not found.image_watermark
    assert np.array_equal(pixels, plain)
    assert "has no watermark that can be read" in caplog.text


def test_nothing_is_marked_unasked(render: Render) -> None:
    found, pixels = render({"width": 256, "height": 256})
    assert (found.image_watermark, is_marked(pixels)) == (False, False)


def test_a_file_says_nothing_where_metadata_are_not_wanted(render: Render, tmp_path: Path) -> None:
    found, _ = render({"prompt": "a secret"}, metadata="none")
    path = tmp_path / "images" / found.image_path
    assert (read_metadata(path).infotext, read_metadata(path).record) == (None, None)
    assert b"secret" not in path.read_bytes()
    assert found.prompt == "a secret"


def test_a_file_tells_the_seed_that_was_used(render: Render, tmp_path: Path) -> None:
    found, _ = render({"seed": 2**32 - 1})
    told = read_metadata(tmp_path / "images" / found.image_path)
    assert parse_infotext(told.infotext or "")["Seed"] == str(2**32 - 1)
    assert (told.record or {})["seed"] == found.seed == 2**32 - 1


ASKED = {
    "prompt": "a cat: asleep", "negative_prompt": "b", "sampler": "Euler a", "steps": 3, "scale": 4.5, "seed": 2**40,
    "eta": 0.5, "tags": {"colour": "红"},
}  # fmt: skip


def test_a_files_record_rebuilds_the_parameters_of_its_job(render: Render, tmp_path: Path, init_image: Path) -> None:
    asked = {**ASKED, "init_image": str(init_image), "strength": 0.7}
    found, _ = render(asked)
    record = read_metadata(tmp_path / "images" / found.image_path).record or {}
    rebuilt = Parameters(**{name: record[name] for name in Parameters.__struct_fields__ if name != "num_images"})
    assert {name: getattr(rebuilt, name, record["tags"]) for name in asked} == asked
    assert {name: getattr(found, name) for name in record.keys() & set(found._fields)} == {
        name: record[name] for name in record.keys() & set(found._fields)
    }


def test_steps_and_noise_of_an_original_run_are_recorded(render: Render, tmp_path: Path) -> None:
    noise = {"source": "compvis", "start": {"seed": 42, "draw": 51, "rows": 3, "row": 1}}
    asked = {"model": "demo", "sampler": "PLMS", "steps": 6, "compat": "compvis", "noise": noise}
    found, _ = render(asked)
    told = read_metadata(tmp_path / "images" / found.image_path)
    infotext = parse_infotext(told.infotext or "")
    assert (found.steps, found.image_steps_run) == (6, 7)
    assert (found.noise, (told.record or {})["noise"], (told.record or {})["compat"]) == (noise, noise, "compvis")
    assert (infotext["RNG"], infotext["Noise"]) == ("NV", "compvis, draw 51 of seed 42, row 1 of 3")


def test_the_ledger_has_all_that_made_an_image(render: Render, tmp_path: Path, init_image: Path) -> None:
    found, _ = render({**ASKED, "init_image": str(init_image), "strength": 0.7})
    assert (found.steps, found.image_steps_run) == (3, 2)
    assert (found.image_device, found.image_dtype, found.image_worker) == ("cpu", "float32", "w@here")
    assert {"promptmill", "torch", "diffusers", "transformers"} <= found.image_versions.keys()
    assert len(found.image_checkpoint_hash) == 64
    assert found.started_at <= found.image_created_at
    assert (tmp_path / "images" / found.image_path).is_file()
