"""The number format a job asks for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.settings import Settings
from worker.checkpoints import open_checkpoint
from worker.engine import Engine
from worker.renderers import open_engine
from worker.sample import Form, Sample


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(Settings(home=tmp_path, device="cpu"))
    yield engine
    engine.close(finish=False)


def test_samples_of_another_precision_need_another_form(make_sample: Callable[..., Sample]) -> None:
    assert make_sample(precision="float32").shape != make_sample().shape
    assert make_sample(precision="float32").shape.form == Form("tiny", "float32")
    assert str(Form("tiny", "float32")) == "tiny in float32"


def test_each_job_is_made_in_its_own_precision(engine: Engine, make_sample: Any, checkpoint_folder: Path) -> None:
    precisions = (None, "autocast", "bfloat16", "float32")
    samples = [make_sample(model=str(checkpoint_folder), precision=precision) for precision in precisions * 2]
    pictures = [future.result(60) for future in [engine.submit(sample) for sample in samples]]
    assert [picture.dtype for picture in pictures] == ["float32", "autocast", "bfloat16", "float32"] * 2
    assert engine.progress.switches == 4
    assert (pictures[0].pixels == pictures[3].pixels).all()


def test_autocast_keeps_the_weights_and_rounds_the_products(
    engine: Engine, make_sample: Any, checkpoint_folder: Path
) -> None:
    opened = open_checkpoint(str(checkpoint_folder), device="cpu", dtype="autocast")
    assert (opened.unet.dtype, opened.vae.dtype, opened.dtype_name) == (torch.float32, torch.float32, "autocast")
    samples = [make_sample(model=str(checkpoint_folder), precision=precision) for precision in ("float32", "autocast")]
    full, cast = (engine.submit(sample).result(60).pixels.astype(int) for sample in samples)
    assert 0 < np.abs(full - cast).mean() < 8


def test_the_products_of_autocast_are_those_of_the_original_scripts(checkpoint_folder: Path) -> None:
    opened = open_checkpoint(str(checkpoint_folder), device="cpu", dtype="autocast")
    with opened.computing():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.get_autocast_dtype("cpu") == torch.bfloat16
    with open_checkpoint(str(checkpoint_folder), device="cpu", dtype="float32").computing():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
