"""Inpainting against diffusers' own pipelines, by plain UNets and by those that see masks; and what it keeps."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from PIL import Image
from torch import Tensor

from tests.worker.conftest import CPU
from tests.worker.pipelines import call_pipeline, save_sd, save_sdxl
from tests.worker.test_float32 import overflow
from worker import denoise
from worker.canvas import Kept, open_mask
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.errors import CheckpointUnsupported, SamplerRefused
from worker.float32 import in_float32
from worker.layout import Layout
from worker.renderer import Flight, Renderer
from worker.sample import Pixels, Sample

# diffusers 0.42 with numpy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
]

SAVED = {
    "plain": save_sd,
    "inpainting": lambda folder: save_sd(folder, inpainting=True),
    "plain-xl": save_sdxl,
    "inpainting-xl": lambda folder: save_sdxl(folder, inpainting=True),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint of each kind, opened once."""
    found: dict[str, Checkpoint] = {}

    def opened_as(kind: str) -> Checkpoint:
        if kind not in found:
            found[kind] = open_checkpoint(str(SAVED[kind](tmp_path_factory.mktemp(kind) / "tiny")), **CPU)
        return found[kind]

    return opened_as


@pytest.fixture(params=["plain", "inpainting"])
def painter(request: pytest.FixtureRequest, opened: Any) -> Checkpoint:
    return opened(request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A rectangle, grey noise of another size, and one that is white all over."""
    folder = tmp_path_factory.mktemp("masks")
    rectangle = np.zeros((32, 32), np.uint8)
    rectangle[8:24, 4:20] = 255
    noise = np.random.default_rng(1).integers(0, 255, (40, 50), dtype=np.uint8)
    pictures = {"rectangle": rectangle, "noise": noise, "white": np.full((32, 32), 255, np.uint8)}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in pictures}


@pytest.fixture(scope="module")
def pipelines_latents() -> Callable[[Checkpoint, Sample], Tensor]:
    """What a plain pipeline call makes of a sample; made once."""
    made: dict[tuple[str, Sample], Tensor] = {}

    def make(painter: Checkpoint, sample: Sample) -> Tensor:
        key = painter.name, sample
        if key not in made:
            made[key] = call_pipeline(painter, sample, output_type="latent")
        return made[key]

    return make


@pytest.fixture
def make_job(make_sample: Any, init_image: Path, masks: dict[str, Path]) -> Any:
    """A sample with an init image and the mask of that name."""

    def make(mask: str = "rectangle", **fields: Any) -> Sample:
        begun = {"init_image": init_image, "mask_image": masks[mask], "strength": 0.6, "steps": 8}
        return make_sample(**{**begun, **fields})  # type: ignore[no-any-return]

    return make


@pytest.mark.parametrize("painter", SAVED, indirect=True)
@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("scale", [7.5, 1.0])
def test_alone_along_an_object_latents_are_the_pipelines_bit_for_bit(
    painter: Checkpoint, make_job: Any, strength: float, scale: float
) -> None:
    sample = make_job(strength=strength, scale=scale, sampler="Euler a", negative_prompt="blurry")
    found = Renderer(painter, sampling="objects").fly([sample])[0].latents
    assert torch.equal(found, call_pipeline(painter, sample, output_type="latent"))


@pytest.mark.parametrize("sampler", ["DDIM", "Heun", "LMS", "DPM2", "DPM++ 2M Karras", "DPM2 a", "UniPC"])
@pytest.mark.parametrize("sampling", ["tables", "objects"])
def test_every_kind_of_sampler_puts_back_what_is_kept(
    opened: Any, make_job: Any, pipelines_latents: Any, sampler: str, sampling: Any
) -> None:
    sample, painter = make_job("noise", sampler=sampler), opened("plain")
    found = Renderer(painter, sampling=sampling).fly([sample])[0].latents
    expected = pipelines_latents(painter, sample)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.fixture
def queue(make_job: Any, make_sample: Any, init_image: Path) -> list[Sample]:
    """From noise, from an image, from behind masks; of unlike steps, samplers and scales."""
    return [
        make_job(seed=1),
        make_job("noise", seed=2, steps=5, sampler="Euler a", strength=1.0, scale=1.0),
        make_sample(seed=3, sampler="Heun", steps=3),
        make_sample(seed=4, init_image=init_image, strength=0.5, steps=6, scale=1.0),
        make_job("noise", seed=5, sampler="DPM++ 2M Karras", scale=3.0, prompt="a blue square"),
        make_job(seed=6, sampler="DPM++ 2M SDE", eta=0.3),
    ]


@pytest.fixture
def as_the_pipeline_wants_it(init_image: Path, masks: dict[str, Path]) -> Callable[[Checkpoint, Sample], Sample]:
    """A UNet that sees masks is shown a white one where there is none."""

    def change(painter: Checkpoint, sample: Sample) -> Sample:
        if painter.unet.config.in_channels == 4 or sample.mask_image:
            return sample
        strength = sample.strength if sample.init_image else 1.0
        begun = {"init_image": sample.init_image or init_image, "mask_image": masks["white"]}
        return replace(sample, **begun, strength=strength)

    return change


class Recorder(Renderer):
    """Remembers the flights that it has decoded."""

    landed: list[Flight]

    def decode(self, flights: list[Flight]) -> list[Pixels | None]:
        self.landed = [*getattr(self, "landed", []), *flights]
        return super().decode(flights)


@pytest.mark.parametrize("painter", SAVED, indirect=True)
@pytest.mark.parametrize("sampling", ["tables", "objects"])
def test_in_a_mixed_queue_latents_are_the_pipelines(
    open_engine: Any, painter: Checkpoint, queue: list[Sample], as_the_pipeline_wants_it: Any,
    pipelines_latents: Any, sampling: Any,
) -> None:  # fmt: skip
    renderer = Recorder(painter, sampling=sampling)
    with open_engine(renderer=renderer, max_rows=16) as engine:
        pictures = [future.result() for future in [engine.submit(sample) for sample in queue]]
    assert max(picture.rows for picture in pictures) > 6
    for flight in renderer.landed:
        expected = pipelines_latents(painter, as_the_pipeline_wants_it(painter, flight.sample))
        assert (flight.latents - expected).abs().max() <= 1e-4 * expected.abs().max(), flight.sample


@pytest.mark.parametrize("mask", ["rectangle", "noise"])
def test_around_the_mask_the_picture_keeps_its_pixels(
    open_engine: Any, painter: Checkpoint, make_job: Any, init_image: Path, mask: str
) -> None:
    sample = make_job(mask, strength=1.0)
    with open_engine(painter) as engine:
        pixels = engine.submit(sample).result().pixels
    original, painted = np.asarray(Image.open(init_image)), open_mask(sample)
    assert np.array_equal(pixels[~painted], original[~painted])
    assert not np.array_equal(pixels[painted], original[painted])


def test_what_is_painted_follows_the_prompt_and_the_seed(open_engine: Any, painter: Checkpoint, make_job: Any) -> None:
    with open_engine(painter) as engine:
        jobs = [make_job(), make_job(), make_job(prompt="a blue square"), make_job(seed=2)]
        first, again, *others = (engine.submit(job).result().pixels for job in jobs)
    assert np.array_equal(first, again)
    assert all(not np.array_equal(first, other) for other in others)


def test_a_lone_strength_of_one_forgets_what_was_there(
    open_engine: Any, painter: Checkpoint, make_job: Any, tmp_path: Path
) -> None:
    """Of another init image, nothing shows behind a mask that is white all over."""
    Image.new("RGB", (32, 32), "blue").save(tmp_path / "blue.png")
    job = make_job("white", strength=1.0)
    with open_engine(painter) as engine:
        found = [
            engine.submit(replace(job, **begun)).result().pixels
            for begun in ({}, {"init_image": tmp_path / "blue.png"})
        ]
    assert np.array_equal(*found)


def test_exact_mode_holds_for_masks(painter: Checkpoint, queue: list[Sample]) -> None:
    renderer = Renderer(painter, layout=partial(padded, 12))
    together = renderer.fly(queue)
    for flight, sample in zip(together, queue, strict=True):
        alone = renderer.fly([sample])[0]
        assert torch.equal(alone.latents, flight.latents)
        assert np.array_equal(renderer.decode([alone])[0], renderer.decode([flight])[0])


def padded(rows: int, _width: int, _height: int) -> Layout:
    return Layout(rows, 4, exact=True)


def exhausted(calls: list[int], inner: Any, which: set[int]) -> Any:
    """A function that runs out of memory at these calls."""

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if calls[-1] in which:
            raise torch.OutOfMemoryError("full")
        return inner(*args, **kwargs)

    return call


@pytest.mark.parametrize(("owner", "name"), [(Kept, "put_back"), (denoise, "guide")])
def test_running_out_of_memory_loses_no_step(
    open_engine: Any, opened: Any, make_job: Any, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    painter = opened("plain")
    jobs = [make_job(seed=seed) for seed in range(3)]
    expected = [flight.latents for flight in Renderer(painter).fly(jobs)]
    calls: list[int] = []
    monkeypatch.setattr(owner, name, exhausted(calls, getattr(owner, name), {1, 4, 7}))
    renderer = Recorder(painter)
    with open_engine(renderer=renderer, max_rows=8) as engine:
        for future in [engine.submit(job) for job in jobs]:
            future.result()
    for flight in renderer.landed:
        close = (flight.latents - expected[flight.sample.seed]).abs().max()
        assert close <= 1e-4 * expected[flight.sample.seed].abs().max()


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("kind", ["plain", "inpainting"])
def test_an_image_that_is_not_finite_is_made_again_with_its_mask(
    open_engine: Any, opened: Any, make_job: Any, init_image: Path, part: str, kind: str
) -> None:
    half = open_checkpoint(opened(kind).name, **{**CPU, "dtype": "bfloat16"})
    module = half.unet if part == "unet" else half.vae.decoder
    hook = module.register_forward_hook(overflow)
    job = make_job(scale=1.0)
    with open_engine(half, vae_batch=1) as engine:
        made = engine.submit(job).result()
    hook.remove()
    expected = Renderer(in_float32(half)).decode(Renderer(in_float32(half)).fly([job]))[0]
    assert made.dtype == "float32"
    assert part == "vae" or np.array_equal(made.pixels, expected)
    kept = ~open_mask(job)
    assert np.array_equal(made.pixels[kept], np.asarray(Image.open(init_image))[kept])


@pytest.mark.parametrize(("strength", "calls"), [(0.75, 37), (1.0, 50), (0.02, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_strength_says_how_many_steps_are_run(
    opened: Any, make_job: Any, monkeypatch: pytest.MonkeyPatch, strength: float, calls: int, masked: bool
) -> None:
    rows: list[int] = []

    def predict(latents: Tensor, *_: Any, **__: Any) -> UNet2DConditionOutput:
        rows.append(len(latents))
        return UNet2DConditionOutput(sample=latents)

    painter, job = opened("plain"), make_job(strength=strength, steps=50)
    monkeypatch.setattr(painter.unet, "forward", predict)
    Renderer(painter).fly([job if masked else replace(job, mask_image=None)])
    assert rows == [2] * calls


@pytest.mark.parametrize("sampler", ["PLMS", "Own"])
def test_no_picture_begins_from_an_image_with_plms(open_engine: Any, opened: Any, make_job: Any, sampler: str) -> None:
    saved = replace(
        opened("plain"), scheduler_config={**opened("plain").scheduler_config, "_class_name": "PNDMScheduler"}
    )
    with open_engine(saved) as engine, pytest.raises(SamplerRefused, match="is PLMS, which cannot begin from an image"):
        engine.submit(make_job(sampler=sampler, mask_image=None)).result()


def test_what_sees_other_things_than_masks_is_refused(opened: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(opened("plain").name, tmp_path / "depth")
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 5}))
    with pytest.raises(CheckpointUnsupported, match="made for depth or edits"):
        open_checkpoint(str(folder), **CPU)
