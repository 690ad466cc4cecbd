"""What was made is made again: by the worker's side alone, and by the command from ledger and files."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file, save_file

from configs.checkpoints import DEMO_PLACE
from configs.settings import Settings
from configs.watermark import embed
from db.ledger import Ledger, NewBatch
from producer.verdict import Made, judge
from tests.db.conftest import job
from worker.checkpoints import Checkpoint
from worker.engine import Engine
from worker.hiding import hide
from worker.images import hash_pixels, save_image
from worker.making import Studio, read_making
from worker.renderer import Renderer
from worker.reproduce import Reproduction, Request, finished, reproduce
from worker.sample import Picture, Sample
from worker.tasks import SAMPLED, provenance

Command = Callable[..., Result]
Make = Callable[..., Sample]
FAST = {"channels_last": True, "fused_projections": True}
CPU = Settings(device="cpu", dtype="float32")


def record_of(sample: Sample) -> dict[str, Any]:
    pictures = {
        name: value and str(value) for name in ("init_image", "mask_image") for value in [getattr(sample, name)]
    }
    return {**{name: getattr(sample, name) for name in SAMPLED}, **pictures}


def made(samples: Sequence[Sample], checkpoint: Checkpoint) -> list[Picture]:
    """As a worker makes them, in calls that some leave before others."""
    engine = Engine(lambda _, progress: Renderer(checkpoint, progress), max_rows=8)
    futures = [engine.submit(sample) for sample in samples]
    pictures = [future.result() for future in futures]
    engine.close(finish=True)
    return pictures


def again(sample: Sample, picture: Picture, file: Path | None = None, **changes: Any) -> Reproduction:
    facts = {**provenance(picture, "w"), **changes}
    request = Request(0, record_of(sample), facts, hash_pixels(picture.pixels), str(file) if file else None)
    (found,) = reproduce([request], CPU)
    return found


@pytest.fixture(scope="module")
def company(checkpoint: Checkpoint, checkpoint_folder: Path) -> list[tuple[Sample, Picture]]:
    """Samples that join and leave, with guidance and without, and their pictures."""
    shared: dict[str, Any] = {"model": str(checkpoint_folder), "width": 32, "height": 32, "prompt": "a castle"}
    first = Sample(**shared, sampler="DPM++ 2M Karras", steps=5, scale=7.5, seed=1)
    others: tuple[dict[str, Any], ...] = (
        {"steps": 2, "sampler": "Euler a"},
        {"steps": 3, "scale": 1.0},
        {"steps": 4, "sampler": "Heun"},
        {"eta": 0.5},
    )
    samples = [first, *(replace(first, seed=seed, **fields) for seed, fields in enumerate(others, 2))]
    return list(zip(samples, made(samples, checkpoint), strict=True))


def test_images_whose_company_came_and_went_are_identical_alone(company: list[tuple[Sample, Picture]]) -> None:
    assert len({picture.variant["rows"] for _, picture in company}) > 2
    requests = [Request(n, record_of(sample), provenance(made, "")) for n, (sample, made) in enumerate(company)]
    found = sorted(reproduce(requests, CPU), key=lambda one: one.number)
    assert [one.sha256 for one in found] == [hash_pixels(picture.pixels) for _, picture in company]
    assert [one.made["versions"] for one in found] == [request.made["versions"] for request in requests]


def test_images_that_were_made_alike_share_calls_again(company: list[tuple[Sample, Picture]]) -> None:
    facts = {**provenance(company[0][1], ""), "batch_rows": 4, "versions": {"rows": "5*4"}}
    requests = [Request(number, record_of(sample), facts) for number, (sample, _) in enumerate(company)]
    found = {one.number: one for one in reproduce(requests, CPU)}
    assert {one.made["batch_rows"] for one in found.values()} == {4}
    assert found[0].sha256 == next(reproduce(requests[:1], CPU)).sha256


def test_tiles_speedups_and_scheduler_objects_are_as_they_were(checkpoint_folder: Path, make_sample: Make) -> None:
    sample = make_sample(model=str(checkpoint_folder), width=128, height=128, steps=1)
    facts: dict[str, Any] = {
        "batch_rows": 2,
        "dtype": "float32",
        "versions": {"sampling": "objects", "tiled": True, **FAST},
    }
    request = Request(0, record_of(sample), facts)
    (fast,), (plain,) = reproduce([request], CPU), reproduce([Request(0, record_of(sample), {"dtype": "float32"})], CPU)
    assert facts["versions"].items() <= fast.made["versions"].items()
    assert not {"tiled", *FAST} & plain.made["versions"].keys()
    assert fast.sha256 != plain.sha256


def test_another_number_format_comes_out_near(company: list[tuple[Sample, Picture]], tmp_path: Path) -> None:
    sample, picture = company[0]
    path = save_image(picture.pixels, tmp_path / "1.png", metadata=None).path
    facts = provenance(picture, "")
    found = again(sample, picture, path, dtype="bfloat16")
    verdict = judge("1", Made(facts, hash_pixels(picture.pixels), path),
                    {"psnr": found.psnr, "sha256": found.sha256, "made": found.made})  # fmt: skip
    assert (verdict.verdict, list(verdict.reasons)) == ("near", ["number format: float32, now bfloat16"])


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_rows": 10**9},
        {"vae_batch": -1},
        {"batch_rows": "x"},
        {"versions": {"rows": "999999999*2"}},
        {"versions": {"rows": "2*99"}},
        {"versions": {"threads": "0x"}},
        {"versions": [1]},
    ],
)
def test_a_record_that_cannot_be_true_is_said(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_making("demo", None, {"batch_rows": 4, "vae_batch": 1, "dtype": "float32", **changes})


def test_what_cannot_be_made_takes_no_other_with_it(company: list[tuple[Sample, Picture]]) -> None:
    sample, picture = company[1]
    record, facts = record_of(sample), provenance(picture, "")
    wrong: tuple[dict[str, Any], ...] = (
        {"model": "/nowhere"},
        {"sampler": "no such"},
        {"init_image": "/nowhere/cat.png"},
        {"steps": None},
    )
    requests = [Request(number, {**record, **changes}, facts) for number, changes in enumerate(({}, *wrong))]
    found = {one.number: one for one in reproduce(requests, CPU)}
    assert found[0].sha256 == hash_pixels(picture.pixels)
    assert "/nowhere" in str(found[1].error)
    assert "not there any more" in str(found[3].error)
    assert all(found[number].error for number in (1, 2, 3, 4))


def test_with_too_little_memory_calls_are_smaller(
    company: list[tuple[Sample, Picture]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fly = Studio._fly

    def fail(self: Studio, checkpoint: Checkpoint, making: Any, samples: Any) -> Any:
        if making.most_rows > 4:
            raise torch.OutOfMemoryError
        return fly(self, checkpoint, making, samples)

    monkeypatch.setattr(Studio, "_fly", fail)
    found = again(*company[0])
    assert (found.error, found.made["batch_rows"], found.made["vae_batch"]) == (None, 4, 1)


@pytest.mark.parametrize("how", ["flag", "blur", "black"])
@pytest.mark.parametrize("marked", [False, True])
def test_what_was_done_to_a_picture_is_done_again(how: Any, marked: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    saved = embed(hide(pixels, how)) if marked else hide(pixels, how)
    assert np.array_equal(finished(pixels, {"flagged": "unsafe"}, hash_pixels(saved)), saved)


def test_an_init_image_that_was_exchanged_is_no_difference(
    checkpoint: Checkpoint, checkpoint_folder: Path, make_sample: Make, tmp_path: Path
) -> None:
    cat = tmp_path / "cat.png"
    Image.new("RGB", (32, 32), "red").save(cat)
    sample = make_sample(model=str(checkpoint_folder), init_image=cat)
    (picture,) = made([sample], checkpoint)
    there = Made(provenance(picture, ""), hash_pixels(picture.pixels), None)
    for colour, word in (("red", "identical"), ("blue", "impossible")):
        Image.new("RGB", (32, 32), colour).save(cat)
        found = again(sample, picture)
        assert judge("1", there, {"sha256": found.sha256, "made": found.made}).verdict == word


@pytest.fixture
def demo_images(home: Path, home_ledger: Ledger) -> Path:
    """Two images of the demo checkpoint that were made together: job 1 is in the ledger; returns the other's file."""
    shared: dict[str, Any] = {"model": "demo", "width": 64, "height": 64, "prompt": "a red circle on a blue background"}
    base = Sample(**shared, sampler="DPM++ 2M Karras", steps=4, scale=7.5, seed=1)
    samples = [base, replace(base, seed=2, steps=3)]
    studio = Studio(CPU)
    making = read_making("demo", None, {"batch_rows": 4, "vae_batch": 2, "dtype": "float32"})
    pictures = [found for found in studio.render(making, samples) if isinstance(found, Picture)]
    new = NewBatch(name="x.csv", slug="x", source_sha256="", image_format="png", total=1)
    batch = home_ledger.create_batch(new)
    home_ledger.add_jobs([job(batch, **{**record_of(base), "init_image": None})])
    home_ledger.open_batch(batch)
    for number, (sample, picture) in enumerate(zip(samples, pictures, strict=True), 1):
        record = {**record_of(sample), **provenance(picture, "w"), "job": number * 7}
        path = save_image(picture.pixels, home / "images" / f"{number}.png", metadata=record).path
        facts = {**provenance(picture, "w"), "path": path.name, "bytes": path.stat().st_size, "width": 64, "height": 64}
        for claim in home_ledger.start_jobs([number], "w", 60):
            home_ledger.finish_job(claim, {**facts, "sha256": hash_pixels(picture.pixels)})
    return path


def edited(path: Path, name: str, **changes: Any) -> Path:
    """The image with another record."""
    with Image.open(path) as image:
        record = json.loads(image.text["promptmill"])  # type: ignore[attr-defined]
        versions = {**record["versions"], **changes.pop("versions", {})}
        return save_image(
            np.asarray(image), path.with_name(name), metadata={**record, **changes, "versions": versions}
        ).path


def other_checkpoint(folder: Path) -> Path:
    """The demo checkpoint with weights that are a little off."""
    shutil.copytree(DEMO_PLACE, folder)
    (weights,) = (folder / "unet").glob("*.safetensors")
    save_file({name: tensor * 0.9 for name, tensor in load_file(weights).items()}, weights)
    return folder


@pytest.mark.slow
def test_the_command_judges_jobs_files_and_queries(demo_images: Path, promptmill: Command, tmp_path: Path) -> None:
    path, other = demo_images, other_checkpoint(tmp_path / "other")
    # Whether another shape changes a pixel is the processor's to say.
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "same.png": ({}, "identical", ""),
        "seed.png": ({"seed": 77}, "different", "nothing that is recorded differs"),
        "weights.png": ({"model": str(other)}, "different", "checkpoint: "),
        "shape.png": ({"batch_rows": 8, "vae_batch": 1, "versions": {"rows": "3*8"}}, "identical near", ""),
        "gone.png": ({"model": "/nowhere"}, "impossible", "/nowhere"),
        "format.png": ({"dtype": "float16", "versions": {"torch": "1.0"}}, "near", "torch: 1.0, now "),
    }
    files = [edited(path, name, **changes) for name, (changes, _, _) in cases.items()]
    result = promptmill("reproduce", "1", *files, "--query", "circle", "--keep", tmp_path / "again", "--json")
    first, *found = [json.loads(line) for line in result.stdout.splitlines()]
    for one, (_, words, _) in zip(found, cases.values(), strict=True):
        assert one["verdict"] in words.split(), one
    assert all(said in "; ".join(one["reasons"]) for one, (_, _, said) in zip(found, cases.values(), strict=True))
    assert (first["verdict"], first["reasons"], first["image"]) == ("identical", [], "job 1")
    assert (result.exit_code, len(list((tmp_path / "again").iterdir()))) == (1, 6), "none was made of the last"
    assert ", 2 different, 1 impossible" in result.stderr
