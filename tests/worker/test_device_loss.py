"""A device that is lost takes the engine with it: jobs on it are charged, jobs that wait are not."""

import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import pytest
import torch

from worker.checkpoints import Checkpoint
from worker.device_loss import find_device_loss
from worker.errors import DeviceLost, EngineClosed

ASSERTION = "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported at some other call."


def lose() -> torch.AcceleratorError:
    return torch.AcceleratorError(ASSERTION)


@pytest.mark.parametrize("error", [lose(), RuntimeError(ASSERTION), DeviceLost("lost")])
def test_a_lost_device_is_known_by_its_errors(error: Exception) -> None:
    assert isinstance(find_device_loss(error), DeviceLost)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not match"),
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture"),
        ValueError("CUDA error:"),
    ],
)
def test_other_errors_are_let_pass(error: Exception) -> None:
    assert find_device_loss(error) is None


def test_its_message_is_one_sentence() -> None:
    assert str(find_device_loss(lose())) == (
        "The device is lost to this process, which ends so that another can start: "
        "CUDA error: device-side assert triggered."
    )


@pytest.fixture
def failing(checkpoint: Checkpoint) -> Callable[[str], Checkpoint]:
    """A checkpoint that loses the device in its UNet or VAE."""

    class Failing:
        config = checkpoint.unet.config

        def __call__(self, *_: Any, **__: Any) -> Any:
            time.sleep(0.2)
            raise lose()

    class FailingVae:
        config, dtype = checkpoint.vae.config, checkpoint.vae.dtype
        decode = Failing()

    parts = {"unet": Failing(), "vae": FailingVae()}
    return lambda part: replace(checkpoint, **{part: parts[part]})


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_what_is_on_a_lost_device_fails_and_what_waits_is_given_back(
    open_engine: Any, failing: Any, make_sample: Any, part: str
) -> None:
    told: list[bool] = []
    with open_engine(failing(part), max_rows=4, on_lost=lambda: told.append(True)) as engine:
        with engine._condition:  # All are there before the first is begun.
            futures = [engine.submit(make_sample(seed=seed, steps=1)) for seed in range(6)]
        errors = [future.exception() if not future.cancelled() else None for future in wait_for(futures)]
        assert [isinstance(error, DeviceLost) for error in errors] == [True] * 2 + [False] * 4
        assert (told, {future.cancelled() for future in futures[2:]}) == ([True], {True})
        with pytest.raises(EngineClosed):
            engine.submit(make_sample())


def wait_for(futures: list[Any]) -> list[Any]:
    for future in futures:
        try:
            future.exception(30)
        except CancelledError:
            continue
    return futures


def test_a_checkpoint_that_loses_the_device_when_opened_charges_nobody(open_engine: Any, make_sample: Any) -> None:
    told: list[bool] = []

    def refuse(*_: Any) -> Any:
        raise lose()

    with open_engine(on_lost=lambda: told.append(True)) as engine:
        engine._open_renderer = refuse
        with pytest.raises(EngineClosed):
            engine.submit(make_sample()).result(30)
    assert told
