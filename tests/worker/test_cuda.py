"""A small card, emulated on a real one: skipped where there is none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from worker.checkpoints import Checkpoint, open_checkpoint
from worker.engine import Engine
from worker.errors import OutOfMemory
from worker.footprint import Placement
from worker.memory import DeviceMemory, cap_memory
from worker.predictor import Predictor
from worker.profile import Profile
from worker.renderer import Renderer
from worker.room import Rooms
from worker.sample import Picture, Sample
from worker.speedups import speed_up

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
CARD = torch.device("cuda:0")
MIB = 2**20


@pytest.fixture
def cap() -> Iterator[int]:
    """256 MiB: many rows of the demo checkpoint at a large size are too much for it."""
    yield 256 * MIB
    torch.cuda.set_per_process_memory_fraction(1.0, CARD)
    torch.cuda.empty_cache()


def open_demo(placement: Placement = Placement.RESIDENT) -> Checkpoint:
    checkpoint = open_checkpoint("demo", device="cuda:0", dtype="float16")
    assert isinstance(checkpoint, Checkpoint)
    checkpoint.footprint.reach(placement)
    return checkpoint


def make_samples(count: int, side: int) -> list[Sample]:
    fixed = {"model": "demo", "prompt": "a red circle", "sampler": "DDIM", "steps": 4, "scale": 7.5}
    return [Sample(**fixed, width=side, height=side, seed=seed) for seed in range(count)]


def render(checkpoint: Checkpoint, samples: list[Sample], rooms: Rooms | None = None) -> list[Picture]:
    engine = Engine(lambda _, progress: Renderer(checkpoint, progress, rooms=rooms), max_rows=128)
    try:
        return [future.result() for future in [engine.submit(sample) for sample in samples]]
    finally:
        engine.close(finish=False)


def test_a_capped_worker_keeps_below_its_cap_and_makes_every_image(cap: int, tmp_path: Path) -> None:
    cap_memory(CARD, cap)
    torch.cuda.reset_peak_memory_stats(CARD)
    checkpoint = open_demo()
    rooms = Rooms(checkpoint=checkpoint, most=128, profile=Profile(tmp_path / "profile.json"), cap=cap)
    pictures = render(checkpoint, make_samples(64, side=512), rooms)
    assert len(pictures) == 64
    assert max(picture.rows for picture in pictures) < 128
    assert torch.cuda.max_memory_reserved(CARD) <= cap


def test_a_tuned_worker_finds_rows_that_fit(cap: int, tmp_path: Path) -> None:
    cap_memory(CARD, cap)
    profile = Profile(tmp_path / "profile.json")
    rooms = Rooms(checkpoint=open_demo(), most=128, profile=profile, cap=cap, tuned=True)
    render(rooms.checkpoint, make_samples(64, side=256), rooms)
    again = Rooms(checkpoint=rooms.checkpoint, most=128, profile=profile, cap=cap, tuned=True)
    assert rooms.of(256, 256).rows == again.of(256, 256).rows
    assert DeviceMemory(CARD, cap).capped


@pytest.mark.parametrize("placement", [Placement.VISITING, Placement.STREAMED])
def test_offloaded_weights_make_the_same_image_with_less_memory(placement: Placement) -> None:
    samples = make_samples(2, side=64)
    resident = open_demo()
    expected, full = render(resident, samples), torch.cuda.memory_allocated(CARD)
    resident.footprint.reach(placement)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated(CARD) < full
    for made, picture in zip(render(resident, samples), expected, strict=True):
        assert np.abs(made.pixels.astype(int) - picture.pixels).max() <= 2


def test_an_image_that_cannot_fit_fails_with_advice_and_the_next_is_made(cap: int) -> None:
    cap_memory(CARD, cap)
    checkpoint = open_demo()
    rooms = Rooms(checkpoint=checkpoint, most=128, cap=cap)
    with pytest.raises(OutOfMemory, match="raise --vram"):
        render(checkpoint, make_samples(1, side=4096), rooms)
    assert len(render(checkpoint, make_samples(2, side=64), rooms)) == 2


def test_attention_needs_no_plain_kernel() -> None:
    checkpoint = open_demo()
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
    with torch.no_grad(), sdpa_kernel(fused):
        Renderer(checkpoint).fly(make_samples(4, side=128))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's compiler
def test_compiled_and_captured_calls_make_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    samples = make_samples(16, side=128)
    expected = render(open_demo(), samples)
    fast = speed_up(open_demo(), channels_last="on", fused_projections="on")
    rooms = Rooms(checkpoint=fast, most=8)
    renderer = Renderer(fast, rooms=rooms, predictor=Predictor(fast, rooms, switch="on"))
    engine = Engine(lambda *_: renderer, max_rows=8)
    made = [future.result() for future in [engine.submit(sample) for sample in samples]]
    engine.close(finish=True)
    assert any(picture.variant.get("compiled") for picture in made)
    for one, other in zip(made, expected, strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).mean() <= 1
