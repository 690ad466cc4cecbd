"""A tiny Stable Diffusion, engines for it, and samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.worker.pipelines import save_sd
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.engine import Engine
from worker.renderer import Renderer
from worker.sample import Sample

CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What a worker makes of its jobs does not depend on the database; tests of the ledger are run on each."""
    return sqlite_url


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors lose more by waiting for a second thread than they gain."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 latent channels, 4 pixels a latent, v-prediction: nothing as in SD 1.x. Images are 32x32."""
    diffusers.utils.logging.set_verbosity_error()
    return save_sd(tmp_path_factory.mktemp("checkpoint") / "tiny", channels=8, prediction_type="v_prediction")


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    return open_checkpoint(str(checkpoint_folder), **CPU)


@pytest.fixture
def open_engine(checkpoint: Checkpoint) -> Iterator[Callable[..., Any]]:
    """Makes engines for one checkpoint, whatever samples say, in a `with` block; dropped at its end."""

    @contextmanager
    def opened(of: Checkpoint = checkpoint, renderer: Renderer | None = None, **options: Any) -> Iterator[Engine]:
        engine = Engine(lambda _, progress: renderer or Renderer(of, progress), **options)
        try:
            yield engine
        finally:
            engine.close(finish=False)

    return opened


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    """A small sample; any field can be set."""

    def make(**fields: Any) -> Sample:
        defaults = {"model": "tiny", "prompt": "a red circle", "sampler": "DDIM", "steps": 4, "scale": 7.5, "seed": 1}
        return Sample(**{**defaults, "width": 32, "height": 32, **fields})

    return make


@pytest.fixture(scope="session")
def init_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("init") / "init.png"
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
