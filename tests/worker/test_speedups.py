"""Speed settings: the same predictions but for rounding, whatever else is done to the weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.conftest import CPU
from tests.worker.pipelines import save_sdxl
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.exact import ExactLayout
from worker.float32 import in_float32
from worker.footprint import Placement
from worker.layout import Layout
from worker.renderer import Renderer
from worker.room import Rooms
from worker.speedups import fuse_projections, is_on, speed_up

BOTH = {"channels_last": "on", "fused_projections": "on"}


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def folder(request: pytest.FixtureRequest, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_folder if request.param == "sd" else save_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


def open_fresh(folder: Path, **options: Any) -> Checkpoint:
    checkpoint = open_checkpoint(str(folder), **{**CPU, **options})
    assert isinstance(checkpoint, Checkpoint)
    return checkpoint


@pytest.fixture
def fast(folder: Path) -> Checkpoint:
    return speed_up(open_fresh(folder), **BOTH)


def fly(checkpoint: Checkpoint, make_sample: Any) -> torch.Tensor:
    flights = Renderer(checkpoint).fly([make_sample(seed=seed, scale=scale) for seed, scale in enumerate((7.5, 1.0))])
    return torch.cat([flight.latents for flight in flights])


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert ((found - expected).abs().max() / expected.abs().max()) <= 1e-4


def test_latents_are_the_same_but_for_rounding(folder: Path, fast: Checkpoint, make_sample: Any) -> None:
    assert fast.speedups == ("channels_last", "fused_projections")
    assert fast.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert_close(fly(fast, make_sample), fly(open_fresh(folder), make_sample))


def test_no_weight_is_kept_twice(folder: Path, fast: Checkpoint) -> None:
    count = [sum(weight.numel() for weight in unet.parameters()) for unet in (fast.unet, open_fresh(folder).unet)]
    assert count[0] == count[1]
    assert not any(weight.requires_grad for weight in fast.unet.parameters())


def test_a_copy_in_float32_has_the_original_projections(folder: Path) -> None:
    plain = open_fresh(folder, dtype="bfloat16")
    copy = in_float32(speed_up(open_fresh(folder, dtype="bfloat16"), **BOTH))
    expected, found = plain.unet.state_dict(), copy.unet.state_dict()
    assert copy.speedups == ()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in expected.items())


@pytest.mark.parametrize("placement", [Placement.VISITING, Placement.STREAMED])
def test_weights_may_leave_the_device_afterwards(
    folder: Path, fast: Checkpoint, make_sample: Any, placement: Placement
) -> None:
    fast.footprint.reach(placement)
    assert_close(fly(fast, make_sample), fly(open_fresh(folder), make_sample))


def test_streamed_weights_are_left_as_they_are(checkpoint_folder: Path) -> None:
    checkpoint = open_fresh(checkpoint_folder)
    checkpoint.footprint.reach(Placement.STREAMED)
    assert speed_up(checkpoint, **BOTH) is checkpoint


def test_exact_mode_tests_itself_with_them(fast: Checkpoint) -> None:
    rooms = Rooms(checkpoint=fast, most=4)
    assert ExactLayout(fast, rooms)(32, 32) == Layout(4, 4, exact=True)


def test_attention_of_another_kind_is_left_as_it_is(checkpoint_folder: Path) -> None:
    unet = open_fresh(checkpoint_folder).unet
    assert fuse_projections(unet)
    assert not fuse_projections(unet)


def test_auto_is_on_for_half_precision_on_a_card(checkpoint: Checkpoint) -> None:
    card = replace(checkpoint, device=torch.device("cuda"), dtype=torch.float16)
    assert is_on("auto", card)
    assert not is_on("off", card)
    assert not is_on("auto", replace(card, dtype=torch.float32))
    assert not is_on("auto", checkpoint)
    assert is_on("on", checkpoint)


@pytest.mark.parametrize("sampling", ["tables", "objects"])
def test_the_record_names_what_can_change_bits(
    open_engine: Any, checkpoint_folder: Path, make_sample: Any, sampling: Any
) -> None:
    renderer = Renderer(speed_up(open_fresh(checkpoint_folder), **BOTH), sampling=sampling)
    with open_engine(renderer=renderer) as engine:
        picture = engine.submit(make_sample()).result()
    assert {"sampling": sampling, "channels_last": True, "fused_projections": True}.items() <= picture.variant.items()


def test_the_record_names_tiles(open_engine: Any, checkpoint: Checkpoint, make_sample: Any) -> None:
    renderer = Renderer(checkpoint)
    renderer.rooms.of(128, 128).tile = 16
    with open_engine(renderer=renderer) as engine:
        picture = engine.submit(make_sample(width=128, height=128, steps=1)).result()
    assert {"sampling": "tables", "tiled": True}.items() <= picture.variant.items()
