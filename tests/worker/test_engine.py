"""The engine against plain diffusers calls, and against its own promises."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from configs import samplers
from worker.checkpoints import Checkpoint
from worker.engine import Engine
from worker.errors import EngineClosed, InitImageRefused, NonFiniteImage, SamplerRefused, SizeRefused
from worker.renderer import Renderer
from worker.sample import Pixels, Sample

# diffusers 0.42 with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SAMPLERS = ["DDIM", "PLMS", "DPM++ 2M Karras", "Euler a", "Heun", "LMS", "UniPC"]


def call_pipeline(checkpoint: Checkpoint, sample: Sample, output_type: str = "np") -> Any:
    """What a plain diffusers call makes of the sample: (1, H, W, 3), or latents (1, C, h, w)."""
    sampler = samplers.resolve(sample.sampler)
    scheduler_class = getattr(diffusers, sampler.scheduler)
    options = {"skip_prk_steps": True} if sample.sampler == "PLMS" else {}
    kind = StableDiffusionImg2ImgPipeline if sample.init_image else StableDiffusionPipeline
    pipeline = kind(
        unet=checkpoint.unet,
        vae=checkpoint.vae,
        text_encoder=checkpoint.text_encoder,
        tokenizer=checkpoint.tokenizer,
        scheduler=scheduler_class.from_config({**checkpoint.scheduler_config, **sampler.options, **options}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        sample.prompt,
        negative_prompt=sample.negative_prompt,
        num_inference_steps=sample.steps,
        guidance_scale=sample.scale,
        eta=sample.eta,
        generator=torch.Generator("cpu").manual_seed(sample.seed),
        output_type=output_type,
        return_dict=False,
        **_start_of(sample),
    )[0]


def _start_of(sample: Sample) -> dict[str, Any]:
    if sample.init_image:
        return {"image": Image.open(sample.init_image), "strength": sample.strength}
    return {"width": sample.width, "height": sample.height}


def expected_pixels(checkpoint: Checkpoint, sample: Sample) -> Pixels:
    return (call_pipeline(checkpoint, sample)[0] * 255).round().astype(np.uint8)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_alone_an_image_is_the_pipelines_bit_for_bit(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any, sampler: str
) -> None:
    sample = make_sample(sampler=sampler, negative_prompt="blurry", seed=7, steps=5)
    with open_engine() as engine:
        assert np.array_equal(engine.submit(sample).result().pixels, expected_pixels(checkpoint, sample))


def test_an_unguided_image_is_the_pipelines_bit_for_bit(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any
) -> None:
    sample = make_sample(sampler="Euler a", scale=1.0)
    with open_engine() as engine:
        picture = engine.submit(sample).result()
    assert np.array_equal(picture.pixels, expected_pixels(checkpoint, sample))
    assert picture.rows == 1


def test_eta_reaches_the_sampler_as_in_the_pipeline(open_engine: Any, checkpoint: Checkpoint, make_sample: Any) -> None:
    sample = make_sample(eta=0.8)
    with open_engine() as engine:
        assert np.array_equal(engine.submit(sample).result().pixels, expected_pixels(checkpoint, sample))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_alone_an_img2img_image_is_the_pipelines_bit_for_bit(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any, init_image: Path, sampler: str
) -> None:
    sample = make_sample(sampler=sampler, steps=6, init_image=init_image, strength=0.6)
    with open_engine() as engine:
        assert np.array_equal(engine.submit(sample).result().pixels, expected_pixels(checkpoint, sample))


def record_latents(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> dict[Sample, torch.Tensor]:
    latents: dict[Sample, torch.Tensor] = {}
    decode = renderer.decode

    def decode_and_record(flights: Any) -> Any:
        latents.update({flight.sample: flight.latents for flight in flights})
        return decode(flights)

    monkeypatch.setattr(renderer, "decode", decode_and_record)
    return latents


def mixed_samples(make_sample: Callable[..., Sample], init_image: Path) -> list[Sample]:
    samples = []
    for i, sampler in enumerate(SAMPLERS * 2):
        size = {"width": 32 + 16 * (i % 3 == 0), "height": 32}
        sample = make_sample(prompt=f"picture {i}", sampler=sampler, steps=4 + i % 3, scale=[1.0, 4.0, 7.5][i % 3])
        samples.append(replace(sample, seed=i, **size))
    return [*samples, make_sample(init_image=init_image, steps=8), make_sample(init_image=init_image, sampler="Heun")]


def test_a_mixed_queue_makes_the_pipelines_latents(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any, init_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed, renderer = mixed_samples(make_sample, init_image), Renderer(checkpoint)
    made = record_latents(renderer, monkeypatch)
    with open_engine(renderer=renderer, max_rows=8) as engine:
        pictures = [future.result() for future in [engine.submit(sample) for sample in mixed]]
    assert max(picture.rows for picture in pictures) > 2
    for sample in mixed:
        expected = call_pipeline(checkpoint, sample, output_type="latent")
        assert (made[sample] - expected).abs().max() <= 1e-4 * expected.abs().max(), sample


def test_the_seed_makes_the_image(open_engine: Any, make_sample: Any) -> None:
    with open_engine() as engine:
        first, again, other = (engine.submit(make_sample(seed=seed)).result().pixels for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_picture_says_how_it_was_made(open_engine: Any, make_sample: Any) -> None:
    with open_engine() as engine:
        picture = engine.submit(make_sample(width=48)).result()
    assert picture.pixels.shape == (32, 48, 3)
    assert (picture.rows, picture.device, picture.dtype) == (2, "cpu", "float32")
    assert picture.seconds > 0


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"init_image": Path("missing.png")}, InitImageRefused),
        ({"init_image": Path(__file__)}, InitImageRefused),
        ({"width": 34}, SizeRefused),
        ({"steps": 1000}, SamplerRefused),
        ({"sampler": "Magic"}, SamplerRefused),
    ],
)
def test_a_bad_sample_fails_alone(open_engine: Any, make_sample: Any, bad: dict[str, Any], error: type) -> None:
    with open_engine() as engine:
        good, failing, also_good = (engine.submit(make_sample(**fields)) for fields in ({}, bad, {"seed": 2}))
        with pytest.raises(error):
            failing.result()
        assert good.result().pixels.shape == also_good.result().pixels.shape == (32, 32, 3)


def test_a_strength_that_leaves_no_step_is_refused(open_engine: Any, make_sample: Any, init_image: Path) -> None:
    with open_engine() as engine, pytest.raises(InitImageRefused, match="raise strength"):
        engine.submit(make_sample(init_image=init_image, strength=0.1)).result()


def test_an_image_of_nan_fails_alone(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer(checkpoint)
    step = renderer.step

    def poisoned(flights: list[Any]) -> None:
        step(flights)
        for flight in flights:
            if flight.sample.seed == 13:
                flight.latents = flight.latents * float("nan")

    monkeypatch.setattr(renderer, "step", poisoned)
    with open_engine(renderer=renderer) as engine:
        good, bad = (engine.submit(make_sample(seed=seed)) for seed in (1, 13))
        with pytest.raises(NonFiniteImage):
            bad.result()
        assert good.result().pixels.any()


def failing_unet(checkpoint: Checkpoint, error: Callable[[int], Exception | None]) -> Checkpoint:
    """A checkpoint whose UNet asks `error` with its row count what to raise."""

    class Unet:
        config = checkpoint.unet.config

        def __call__(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if problem := error(len(latents)):
                raise problem
            return checkpoint.unet(latents, *args, **kwargs)

    return replace(checkpoint, unet=Unet())


def test_a_failed_unet_call_fails_its_samples_and_the_engine_goes_on(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any
) -> None:
    errors = iter([RuntimeError("the card coughed")])
    with open_engine(failing_unet(checkpoint, lambda _: next(errors, None))) as engine:
        with pytest.raises(RuntimeError, match="coughed"):
            engine.submit(make_sample()).result()
        assert engine.submit(make_sample()).result().pixels.shape == (32, 32, 3)


def test_out_of_memory_halves_the_rows_and_loses_nothing(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any
) -> None:
    small = failing_unet(checkpoint, lambda rows: torch.OutOfMemoryError("full") if rows > 5 else None)
    with open_engine(small, max_rows=16) as engine:
        futures = [engine.submit(make_sample(seed=seed)) for seed in range(9)]
        assert max(future.result().rows for future in futures) == 4
        assert engine.max_rows(make_sample().shape) == 4


def submit_running(engine: Engine, samples: list[Sample]) -> list[Any]:
    """Submit samples and wait until the engine has stepped the first."""
    futures = [engine.submit(sample) for sample in samples]
    while not futures[0].running():
        time.sleep(0.001)
    return futures


def test_a_sample_can_have_calls_of_its_own(open_engine: Any, make_sample: Any) -> None:
    with open_engine(max_rows=16) as engine:
        futures = [engine.submit(make_sample(seed=seed), alone=seed == 2) for seed in range(5)]
        rows = [future.result().rows for future in futures]
    assert rows[2] == 2
    assert max(rows) > 2


def test_closing_finishes_what_runs_and_cancels_what_waits(open_engine: Any, make_sample: Any) -> None:
    with open_engine(max_rows=2) as engine:
        running, waiting = submit_running(engine, [make_sample(steps=50), make_sample(seed=2)])
        engine.close(finish=True)
    assert running.result(0).pixels.shape == (32, 32, 3)
    assert waiting.cancelled()


def test_closing_can_drop_what_runs(open_engine: Any, make_sample: Any) -> None:
    with open_engine(max_rows=2) as engine:
        running, waiting = submit_running(engine, [make_sample(steps=500), make_sample(seed=2)])
        engine.close(finish=False)
    with pytest.raises(EngineClosed):
        running.result(0)
    with pytest.raises(CancelledError):
        waiting.result(0)


def test_a_second_close_turns_a_finish_into_a_drop(open_engine: Any, make_sample: Any) -> None:
    with open_engine(max_rows=2) as engine:
        (running,) = submit_running(engine, [make_sample(steps=900)])
        finishing = threading.Thread(target=engine.close, kwargs={"finish": True})
        finishing.start()
        engine.close(finish=False)
        finishing.join()
    assert isinstance(running.exception(0), EngineClosed)


def test_a_closed_engine_takes_no_samples(open_engine: Any, make_sample: Any) -> None:
    with open_engine() as engine:
        engine.close(finish=True)
        with pytest.raises(EngineClosed):
            engine.submit(make_sample())


def test_a_cancelled_sample_is_never_started(open_engine: Any, make_sample: Any) -> None:
    with open_engine(max_rows=2) as engine:
        running, waiting = submit_running(engine, [make_sample(steps=20), make_sample(seed=2)])
        assert waiting.cancel()
        running.result()
        assert engine.submit(make_sample()).result().rows == 2


def test_progress_counts_the_steps(open_engine: Any, make_sample: Any) -> None:
    with open_engine() as engine:
        begun = engine.progress.at
        engine.submit(make_sample(steps=4)).result()
        engine.close(finish=True)
        assert engine.progress.steps == 4
        assert engine.progress.at > begun
