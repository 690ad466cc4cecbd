"""Pipelines of other kinds through the engine, against plain calls of them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
from PIL import Image

from configs.settings import Settings
from tests.worker.pipelines import save_flux, save_sd3
from worker.checkpoints import open_checkpoint
from worker.errors import (
    CheckpointBroken,
    CheckpointMissing,
    CheckpointUnsupported,
    InitImageRefused,
    JobRefused,
    NonFiniteImage,
    PromptRefused,
    SamplerRefused,
    SizeRefused,
)
from worker.plain import PlainCheckpoint, makes_images_of_text
from worker.plain_renderer import PlainRenderer
from worker.renderers import open_engine as open_workers_engine
from worker.sample import Pixels, Sample

KINDS = {"sd3": save_sd3, "flux": save_flux}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("plain")
    return {kind: save(root / kind) for kind, save in KINDS.items()}


@pytest.fixture(params=KINDS)
def folder(folders: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    return folders[request.param]


@pytest.fixture
def make_sample(make_sample: Callable[..., Sample]) -> Callable[..., Sample]:
    def make(**fields: Any) -> Sample:
        return make_sample(**{"sampler": "Own", "steps": 3, "scale": 4.0, **fields})

    return make


def open_plain(folder: Path) -> PlainCheckpoint:
    opened = open_checkpoint(str(folder), device="cpu", dtype="float32")
    assert isinstance(opened, PlainCheckpoint)
    return opened


def call_pipeline(folder: Path, *samples: Sample) -> list[Pixels]:
    """What a plain diffusers call makes of samples that are alike."""
    pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    sample = samples[0]
    options: dict[str, Any] = {"width": sample.width, "height": sample.height}
    if sample.init_image:
        pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
        options |= {"image": Image.open(sample.init_image), "strength": sample.strength}
    if sample.negative_prompt:
        options["negative_prompt"] = [other.negative_prompt for other in samples]
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt=[other.prompt for other in samples],
        num_inference_steps=sample.steps,
        guidance_scale=sample.scale,
        generator=[torch.Generator().manual_seed(other.seed) for other in samples],
        output_type="np",
        **options,
    ).images
    return [(image * 255).round().astype(np.uint8) for image in images]


@pytest.mark.parametrize("fields", [{}, {"scale": 1.0}, {"width": 48, "seed": 7}], ids=str)
def test_alone_an_image_is_the_pipelines_bit_for_bit(
    open_engine: Any, folder: Path, make_sample: Any, fields: dict[str, Any]
) -> None:
    sample = make_sample(**fields)
    with open_engine(renderer=PlainRenderer(open_plain(folder))) as engine:
        picture = engine.submit(sample).result()
    assert np.array_equal(picture.pixels, call_pipeline(folder, sample)[0])
    assert (picture.rows, picture.images, picture.dtype) == (sample.rows, 1, "float32")


def test_from_an_init_image_too(open_engine: Any, folder: Path, make_sample: Any, init_image: Path) -> None:
    sample = make_sample(init_image=init_image, steps=5, strength=0.6)
    with open_engine(renderer=PlainRenderer(open_plain(folder))) as engine:
        assert np.array_equal(engine.submit(sample).result().pixels, call_pipeline(folder, sample)[0])


def test_a_negative_prompt_is_heeded(folders: dict[str, Path], make_sample: Any) -> None:
    sample = make_sample(negative_prompt="a square")
    pixels = render(PlainRenderer(open_plain(folders["sd3"])), sample)[0]
    assert np.array_equal(pixels, call_pipeline(folders["sd3"], sample)[0])
    assert not np.array_equal(pixels, call_pipeline(folders["sd3"], replace(sample, negative_prompt=""))[0])


def render(renderer: PlainRenderer, *samples: Sample) -> list[Pixels]:
    flights = [renderer.start(sample) for sample in samples]
    renderer.step(flights)
    return [pixels for pixels in renderer.decode(flights) if pixels is not None]


def test_samples_that_are_alike_share_a_call(folder: Path, make_sample: Any) -> None:
    alike = [make_sample(prompt=f"picture {i}", seed=i) for i in range(3)]
    other = make_sample(steps=2)
    renderer = PlainRenderer(open_plain(folder))
    flights = [renderer.start(sample) for sample in (alike[0], other, *alike[1:])]
    renderer.step(flights)
    assert [(flight.images, flight.rows, flight.done) for flight in flights] == [(n, 2 * n, True) for n in (3, 1, 3, 3)]
    made = [renderer.decode(flights)[i] for i in (0, 2, 3)]
    assert all(np.array_equal(*pair) for pair in zip(made, call_pipeline(folder, *alike), strict=True))


def test_in_exact_mode_each_has_a_call_of_its_own(folder: Path, make_sample: Any) -> None:
    samples = [make_sample(prompt=f"picture {i}", seed=i) for i in range(2)]
    made = render(PlainRenderer(open_plain(folder), apart=True), *samples)
    assert all(
        np.array_equal(image, call_pipeline(folder, sample)[0]) for image, sample in zip(made, samples, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "fields", "error", "says"),
    [
        ("flux", {"sampler": "Euler a"}, SamplerRefused, "FluxPipeline runs no sampler but its own"),
        ("flux", {"negative_prompt": "x"}, PromptRefused, "no negative prompt"),
        ("sd3", {"width": 36}, SizeRefused, "not a multiple of 8"),
        ("sd3", {"init_image": Path("missing.png")}, InitImageRefused, "is not there any more"),
    ],
)
def test_what_a_pipeline_cannot_do_is_refused(
    open_engine: Any, folders: dict[str, Path], make_sample: Any, kind: str, fields: Any, error: type, says: str
) -> None:
    with open_engine(renderer=PlainRenderer(open_plain(folders[kind]))) as engine:
        good, bad = engine.submit(make_sample()), engine.submit(make_sample(**fields))
        with pytest.raises(error, match=says):
            bad.result()
        assert good.result().pixels.any()


def test_the_default_sampler_is_taken_for_its_own(folder: Path, make_sample: Any) -> None:
    renderer = PlainRenderer(open_plain(folder), default_sampler="DPM++ 2M Karras")
    own, default = render(renderer, make_sample(), make_sample(sampler="DPM++ 2M Karras"))
    assert np.array_equal(own, default)


class Faulty:
    """A pipeline, and something done first in each of its calls."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[list[str]], None]) -> None:
        self.checkpoint = open_plain(folder)
        encode = self.checkpoint.pipeline.encode_prompt

        def encode_faultily(*args: Any, prompt: list[str], **options: Any) -> Any:
            fault(prompt)
            return encode(*args, prompt=prompt, **options)

        monkeypatch.setattr(self.checkpoint.pipeline, "encode_prompt", encode_faultily)


def test_a_sample_that_fails_its_call_fails_alone(
    open_engine: Any, folder: Path, make_sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(prompts: list[str]) -> None:
        if "bad" in prompts:
            raise ValueError("no such word")

    checkpoint = Faulty(folder, monkeypatch, fault).checkpoint
    with open_engine(renderer=PlainRenderer(checkpoint)) as engine:
        good, bad = (engine.submit(make_sample(prompt=prompt)) for prompt in ("good", "bad"))
        with pytest.raises(ValueError, match="no such word"):
            bad.result()
        assert good.result().pixels.any()


def test_out_of_memory_halves_the_call_and_loses_nothing(
    open_engine: Any, folder: Path, make_sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(prompts: list[str]) -> None:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("full")

    checkpoint = Faulty(folder, monkeypatch, fault).checkpoint
    with open_engine(renderer=PlainRenderer(checkpoint)) as engine:
        futures = [engine.submit(make_sample(seed=seed)) for seed in range(5)]
        assert {future.result().images for future in futures} <= {1, 2}


def test_an_image_of_nan_is_refused(open_engine: Any, folder: Path, make_sample: Any) -> None:
    checkpoint = open_plain(folder)
    checkpoint.pipeline.vae.decoder.conv_out.weight.fill_(float("nan"))
    with open_engine(renderer=PlainRenderer(checkpoint)) as engine, pytest.raises(NonFiniteImage):
        engine.submit(make_sample()).result()


def test_a_worker_opens_what_the_checkpoint_needs(folder: Path, tmp_path: Path, make_sample: Any) -> None:
    sampler = "DPM++ 2M Karras"
    engine = open_workers_engine(Settings(home=tmp_path, device="cpu", job={"sampler": "dpm++ 2m karras"}))
    try:
        made = engine.submit(make_sample(model=str(folder), sampler=sampler)).result()
        refused = engine.submit(make_sample(model=str(folder), sampler="DDIM"))
        assert made.checkpoint_hash == open_plain(folder).hash
        assert isinstance(refused.exception(), JobRefused)
    finally:
        engine.close(finish=True)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *dict.fromkeys(("FluxPipeline", "PixArtSigmaPipeline", "SanaPipeline", "Kandinsky3Pipeline"), True).items(),
        *dict.fromkeys(("QwenImagePipeline", "SanaSprintPipeline", "LatentConsistencyModelPipeline"), True).items(),
        *dict.fromkeys(("WanPipeline", "FluxFillPipeline", "StableDiffusionXLControlNetPipeline"), False).items(),
        *dict.fromkeys(("KandinskyV22Pipeline", "StableCascadePriorPipeline", "AudioLDM2Pipeline"), False).items(),
        *dict.fromkeys(("StableDiffusionUpscalePipeline", "TextToVideoZeroPipeline", "UNet2DModel"), False).items(),
    ],
)
def test_a_pipeline_that_makes_images_of_text_is_known_by_its_call(kind: str, expected: bool) -> None:
    assert makes_images_of_text(getattr(diffusers, kind)) is expected


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hub's cache holds `owner/cached`, while the hub must not be asked."""
    cache = tmp_path / "models--owner--cached"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return cache / "snapshots" / "abc"


def test_a_hub_id_is_opened_from_the_cache_when_offline(folder: Path, snapshot: Path) -> None:
    shutil.copytree(folder, snapshot)
    opened = open_checkpoint("owner/cached", device="cpu", dtype="float32")
    assert (opened.name, opened.hash) == ("owner/cached", open_plain(folder).hash)


@pytest.mark.parametrize("kind", ["StableDiffusionUpscalePipeline", ["pipeline", "MyPipeline"]], ids=str)
def test_a_hub_id_of_another_kind_is_refused_before_its_weights_are_fetched(snapshot: Path, kind: object) -> None:
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(CheckpointUnsupported, match=r"owner/cached is a"):
        open_checkpoint("owner/cached", device="cpu")


def test_a_tokenizer_that_needs_more_packages_says_so(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copytree(folders["flux"], tmp_path / "copied"))
    (copied / "tokenizer_2" / "tokenizer.json").rename(copied / "tokenizer_2" / "spiece.model")
    monkeypatch.setattr("worker.plain.find_spec", lambda _: None)
    with pytest.raises(CheckpointMissing, match=r"tokenizer_2 of .* needs the packages sentencepiece and protobuf"):
        open_plain(copied)


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda weights: weights.rename(weights.with_suffix(".bin")), CheckpointUnsupported, "run code"),
        (lambda weights: weights.write_bytes(weights.read_bytes()[:-9]), CheckpointBroken, "download it again"),
        (lambda weights: weights.with_name("config.json").unlink(), CheckpointBroken, "text_encoder_2"),
    ],
    ids=["pickle", "truncated", "without configuration"],
)
def test_every_component_is_checked(
    folders: dict[str, Path], tmp_path: Path, spoil: Callable[[Path], object], error: type, says: str
) -> None:
    copied = Path(shutil.copytree(folders["flux"], tmp_path / "copied"))
    spoil(copied / "text_encoder_2" / "model.safetensors")
    with pytest.raises(error, match=says) as caught:
        open_plain(copied)
    assert "\n" not in str(caught.value)
