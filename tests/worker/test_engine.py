"""The engine against plain diffusers calls, and against its own promises."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.worker.pipelines import assert_the_pipelines, call_pipeline
from worker.checkpoints import Checkpoint
from worker.engine import Engine
from worker.errors import EngineClosed, InitImageRefused, NonFiniteImage, SamplerRefused, SizeRefused
from worker.renderer import Renderer
from worker.sample import Sample

# diffusers 0.42 with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_an_unguided_image_is_the_pipelines_bit_for_bit(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any
) -> None:
    assert_the_pipelines(open_engine, checkpoint, make_sample(sampler="Euler a", scale=1.0))


def test_eta_reaches_the_sampler_as_in_the_pipeline(open_engine: Any, checkpoint: Checkpoint, make_sample: Any) -> None:
    assert_the_pipelines(open_engine, checkpoint, make_sample(eta=0.8))


def test_along_tables_an_image_is_nearly_the_pipelines(
    open_engine: Any, checkpoint: Checkpoint, make_sample: Any
) -> None:
    sample = make_sample(sampler="Euler a", negative_prompt="blurry")
    with open_engine() as engine:
        picture = engine.submit(sample).result()
    expected = (call_pipeline(checkpoint, sample)[0] * 255).round()
    assert np.abs(picture.pixels - expected).max() <= 1


def test_an_unguided_image_takes_one_row(open_engine: Any, make_sample: Any) -> None:
    with open_engine() as engine:
        assert engine.submit(make_sample(scale=1.0)).result().rows == 1


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
