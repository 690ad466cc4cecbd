"""Compatibility modes: latents against the originals' samplers, written a second time; noise, pixels and weights."""

import shutil
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import convert
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from configs.clip import END, START
from configs.compat import Course, Noise, images
from tests.worker import originals
from tests.worker.ldm import write_ckpt
from tests.worker.pipelines import save_sd
from worker import philox
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.conditions import join
from worker.errors import PromptRefused, SamplerRefused
from worker.families import FAMILIES, Family
from worker.noise import CudaNoise
from worker.renderer import Renderer
from worker.rules import compile_rule
from worker.sample import Sample
from worker.samplers import Samplers
from worker.tables import Table
from worker.text import PromptEmbeddings

WIDTH = 32
SHAPE = (1, 4, 8, 8)
SIZE = 4 * 8 * 8
TOLERANCE, USUAL = 1e-4, 24.0
"""Of latents as large as those of Stable Diffusion on its way; of larger ones in proportion."""
COMPVIS: dict[str, Any] = {"DDIM": originals.ddim, "PLMS": originals.plms, "DPM++ 2M": originals.dpm_solver}
K_SAMPLERS: dict[str, Any] = {
    "Euler": originals.euler,
    "Heun": originals.heun,
    "DPM2": originals.dpm2,
    "LMS": originals.lms,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny checkpoint as the originals left theirs: one `.ckpt`, opened from its weights and our configurations."""
    root = tmp_path_factory.mktemp("original")
    folder = save_sd(root / "tiny")
    text = {"hidden_size": WIDTH, "projection_dim": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2}
    torch.manual_seed(1)
    CLIPTextModel(CLIPTextConfig(**text, num_attention_heads=4, bos_token_id=START, eos_token_id=END)).save_pretrained(
        folder / "text_encoder"
    )
    write_ckpt(folder, root / "model.ckpt")
    shutil.copytree(folder, root / "configs", ignore=shutil.ignore_patterns("*.safetensors", "tokenizer*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, WIDTH, Family(root / "configs"))
        opened = open_checkpoint(str(root / "model.ckpt"), device="cpu", dtype="float32")
    assert isinstance(opened, Checkpoint)
    # Latents of the size that trained weights make.
    opened.unet.conv_out.weight.data.mul_(0.25)
    return opened


def guided(checkpoint: Checkpoint, sample: Sample) -> originals.Predict:
    texts = PromptEmbeddings(checkpoint.text_encoders)
    conditions = join([texts.encode(""), texts.encode(sample.prompt)])

    @torch.no_grad()
    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        rows = torch.cat([latents, latents])
        without, with_text = checkpoint.unet(rows, timestep.expand(2), **conditions.arguments()).sample.chunk(2)
        result: Tensor = without + sample.scale * (with_text - without)
        return result

    return originals.as_float32(predict)


def make(course: Course, number: int = 0, **fields: Any) -> Sample:
    """The sample of an image of a run."""
    image = list(images(course, [["a castle"] * course.n_samples]))[number]
    defaults: dict[str, Any] = {"prompt": image.prompt, "scale": 4.0, "width": 32, "height": 32}
    return Sample(
        model="",
        sampler=course.sampler,
        steps=course.steps,
        seed=image.seed,
        eta=course.eta,
        compat=course.mode,
        noise=image.noise,
        **{**defaults, "strength": course.strength or 0.75, **fields},
    )


def drawn(seed: int, rows: int, row: int, draw: int) -> Tensor:
    """The noise of an image in the draws of one CUDA generator, all of so many rows."""
    whole = philox.normal(seed, rows * SIZE, slice(None), calls=draw)
    return torch.from_numpy(whole).view(rows, *SHAPE[1:])[row : row + 1].double()


def assert_near(checkpoint: Checkpoint, sample: Sample, expected: Tensor) -> None:
    found = Renderer(checkpoint).fly([sample])[0].latents
    largest = float(expected.abs().max())
    assert float((found - expected).abs().max()) <= TOLERANCE * max(1.0, largest / USUAL)


@pytest.mark.parametrize("steps", [20, 25, 30, 50])
@pytest.mark.parametrize("sampler", COMPVIS)
def test_latents_are_those_of_compvis(original: Checkpoint, sampler: str, steps: int) -> None:
    sample = make(Course(mode="compvis", sampler=sampler, steps=steps, seed=42, n_samples=3), 1)
    assert_near(original, sample, COMPVIS[sampler](guided(original, sample), drawn(42, 3, 1, 0), steps))


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        ("DDIM", 1),
        ("PLMS", 1),
        ("PLMS", 2),
        ("DPM++ 2M", 2),
        ("DPM++ 2M", 3),
        ("DPM++ 2M", 14),
        ("DPM++ 2M", 15),
        ("DPM++ 2M", 27),
    ],
)
def test_latents_are_those_of_compvis_in_few_steps(original: Checkpoint, sampler: str, steps: int) -> None:
    sample = make(Course(mode="compvis", sampler=sampler, steps=steps, seed=7, n_samples=1))
    assert_near(original, sample, COMPVIS[sampler](guided(original, sample), drawn(7, 1, 0, 0), steps))


@pytest.mark.parametrize(("sampler", "steps"), [*product(K_SAMPLERS, [20]), ("Heun", 1), ("LMS", 27)])
def test_latents_are_those_of_the_fork(original: Checkpoint, sampler: str, steps: int) -> None:
    sample = make(Course(mode="optimized", sampler=sampler, steps=steps, seed=5, n_samples=2), 1)
    assert_near(original, sample, K_SAMPLERS[sampler](guided(original, sample), drawn(6, 1, 0, 0), steps))


@pytest.mark.parametrize(("sampler", "rule"), [("Euler a", originals.euler_ancestral), ("DPM2 a", originals.dpm2)])
def test_the_forks_ancestral_noise_follows_the_batchs_last_start(original: Checkpoint, sampler: str, rule: Any) -> None:
    sample = make(Course(mode="optimized", sampler=sampler, steps=20, seed=5, n_samples=3), 1)
    noise = (drawn(7, 3, 1, draw) for draw in range(1, 21))
    assert_near(original, sample, rule(guided(original, sample), drawn(6, 1, 0, 0), 20, noise))


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_noise_of_ddim_steps_follows_in_the_runs_draws(original: Checkpoint, eta: float) -> None:
    course = Course(mode="compvis", sampler="DDIM", steps=20, seed=42, n_samples=2, n_iter=2, eta=eta)
    sample = make(course, 3)
    noise = (drawn(42, 2, 1, 22 + step) for step in range(20))
    expected = originals.ddim(guided(original, sample), drawn(42, 2, 1, 21), 20, eta, noise)
    assert_near(original, sample, expected)


@pytest.mark.parametrize(("steps", "strength"), [(50, 0.75), (30, 1.0), (20, 1.0), (100, 0.29)])
def test_an_init_image_is_noised_one_place_above_the_first_step(
    original: Checkpoint, monkeypatch: pytest.MonkeyPatch, init_image: Path, steps: int, strength: float
) -> None:
    course = Course(mode="compvis", sampler="DDIM", steps=steps, seed=9, n_samples=2, strength=strength)
    sample = make(course, 1, init_image=init_image)
    clean = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    # The VAE's own noise cannot be that of the originals.
    monkeypatch.setattr(Renderer, "_encode", lambda *_: clean)
    start = originals.begin_from(clean.double(), drawn(9, 2, 1, 0), steps, strength)
    taken = int(strength * steps)
    assert_near(original, sample, originals.ddim(guided(original, sample), start, steps, taken=taken))


@pytest.mark.parametrize(("sampler", "calls"), [("DDIM", 31), ("PLMS", 32), ("DPM++ 2M", 30)])
def test_thirty_steps_are_as_many_calls_as_in_compvis(original: Checkpoint, sampler: str, calls: int) -> None:
    sample = make(Course(mode="compvis", sampler=sampler, steps=30, seed=1, n_samples=1))
    timesteps = Renderer(original).start(sample).trajectory.table.timesteps.tolist()  # type: ignore[union-attr]
    assert (len(timesteps), timesteps[0]) == (calls, 999 if sampler == "DPM++ 2M" else 991)


def test_the_forks_plms_takes_eta(original: Checkpoint) -> None:
    fly = Renderer(original).fly
    none, some, again = (
        fly([make(Course(mode="optimized", sampler="PLMS", steps=10, seed=1, n_samples=1, eta=eta))])[0].latents
        for eta in (0.0, 1.0, 1.0)
    )
    assert torch.equal(some, again)
    assert not torch.allclose(none, some, atol=0.1)


def test_with_a_fixed_code_iterations_begin_alike_and_images_do_not() -> None:
    course = Course(mode="compvis", sampler="DDIM", steps=50, seed=42, n_samples=2, n_iter=2, fixed_code=True)
    starts = [CudaNoise(image.noise).start(SHAPE) for image in images(course, ["ab"])]
    assert torch.equal(starts[0], starts[2])
    assert torch.equal(starts[1], starts[3])
    assert not torch.equal(starts[0], starts[1])


def test_a_small_card_is_a_choice_that_the_record_keeps() -> None:
    course = Course(mode="compvis", sampler="DDIM", steps=50, seed=42, n_samples=3, threads=512)
    records = [image.noise.record() for image in images(course, ["abc"])]
    starts = torch.cat([CudaNoise(convert(record, Noise)).start(SHAPE) for record in records])
    expected = philox.normal(42, 3 * SIZE, slice(None), threads=512)
    np.testing.assert_array_equal(starts.flatten().numpy(), expected)


def test_in_compatibility_colours_are_cut_off_and_beside_it_rounded(original: Checkpoint) -> None:
    renderer, sample = Renderer(original), make(Course(mode="compvis", sampler="DDIM", steps=2, seed=1, n_samples=1))
    flights = renderer.fly([sample, replace(sample, compat=None, noise=None)])
    flights[1].latents = flights[0].latents
    cut, rounded = (pixels.astype(int) for pixels in renderer.decode(flights) if pixels is not None)
    assert set(np.unique(rounded - cut)) == {0, 1}


def test_weighted_sub_prompts_are_averaged(original: Checkpoint) -> None:
    texts = PromptEmbeddings(original.text_encoders)
    found = texts.encode_weighted("tabby cat:0.25 white duck:0.75 hybrid").text
    parts = [texts.encode(text).text for text in ("tabby cat", "white duck", "hybrid")]
    assert torch.allclose(found, 0.125 * parts[0] + 0.375 * parts[1] + 0.5 * parts[2], atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_weights_are_heeded_only_where_they_are_asked_for(original: Checkpoint, scale: float) -> None:
    sample = partial(Sample, model="", sampler="Euler", steps=2, scale=scale, width=32, height=32, seed=1)
    samples = [sample(prompt="Title: a castle", weights=weights) for weights in (False, True)]
    flights = list(map(Renderer(original).start, samples))
    plain, weighted = (flight.positive.text for flight in flights)
    texts = PromptEmbeddings(original.text_encoders)
    assert torch.equal(plain, texts.encode("Title: a castle").text)
    assert torch.allclose(weighted, (texts.encode("Title").text + texts.encode("a castle").text) / 2, atol=1e-6)


def test_weights_without_a_sum_are_refused(original: Checkpoint) -> None:
    with pytest.raises(PromptRefused, match="sum to 0"):
        PromptEmbeddings(original.text_encoders).encode_weighted("a:1 b:-1")


def follow(table: Table, alphas: Tensor, *, velocity: bool) -> Tensor:
    """The way along a table with a model that predicts noise, or what comes to the same, velocity."""
    state = torch.zeros(table.matrices.shape[1], 16, dtype=torch.float64)
    state[0] = torch.linspace(-2, 2, 16) * table.noise_factor
    for timestep, scale, matrix in zip(table.timesteps, table.scales, table.matrices, strict=True):
        alpha = scale if scale < 1 else alphas[timestep.round().long()].sqrt()
        latents = scale * state[0]
        noise = torch.tanh(latents + timestep / 1000)
        prediction = (noise - (1 - alpha**2).sqrt() * latents) / alpha if velocity else noise
        state = matrix.double() @ torch.stack([*state, prediction, torch.ones(16)])
    return state[0]


@pytest.mark.parametrize("sampler", ["DDIM", "PLMS", "DPM++ 2M", "Euler a", "Heun", "DPM2", "LMS"])
def test_checkpoints_that_predict_velocity_go_the_same_way(sampler: str) -> None:
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    # 27 divides 999: also DPM-Solver's timesteps are whole ones.
    steps = 27 if sampler == "DPM++ 2M" else 20
    ends = [
        follow(compile_rule(sampler, alphas.numpy(), steps, steps, 0.0, velocity=velocity), alphas, velocity=velocity)
        for velocity in (False, True)
    ]
    assert float((ends[0] - ends[1]).abs().max()) < 1e-4


def test_the_shipped_checkpoint_draws_what_it_is_asked_for() -> None:
    checkpoint = open_checkpoint("demo", device="cpu", dtype="float32")
    assert isinstance(checkpoint, Checkpoint)
    course = Course(mode="compvis", sampler="DDIM", steps=10, seed=42, n_samples=2)
    sample = make(course, 1, prompt="a red circle on a blue background", scale=7.5, width=128, height=128)
    (pixels,) = Renderer(checkpoint).decode(Renderer(checkpoint).fly([sample]))
    assert pixels is not None
    middle, corner = pixels[64, 64].astype(int), pixels[4, 4].astype(int)
    assert middle[0] > 150 > middle[2]
    assert corner[2] > 150 > corner[0]


def test_a_checkpoint_that_predicts_something_else_is_refused() -> None:
    sample = make(Course(mode="compvis", sampler="DDIM", steps=2, seed=1, n_samples=1))
    samplers = Samplers({"_class_name": "DDIMScheduler", "prediction_type": "sample"})
    with pytest.raises(SamplerRefused, match="predicts noise"):
        samplers.start(sample, torch.Generator())
