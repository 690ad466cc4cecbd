"""Compiled UNet calls: the same predictions, no second compilation, and no image lost where compiling fails."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.utils import counters

from tests.worker.test_exact import Fickle
from worker import predictor
from worker.checkpoints import Checkpoint
from worker.conditions import Conditions
from worker.denoise import Rows
from worker.errors import DeviceLost
from worker.exact import ExactLayout
from worker.footprint import Footprint, Placement
from worker.layout import tight
from worker.predictor import Predictor
from worker.profile import Compiled, Profile
from worker.progress import Progress
from worker.renderer import Renderer
from worker.room import Rooms
from worker.sample import Sample

ROWS = 8
NOWHERE = Profile()
SAMPLERS = ("DDIM", "PLMS", "Euler a", "Heun", "DPM++ 2M Karras", "UniPC")


@pytest.fixture(scope="module")
def small(checkpoint: Checkpoint) -> Checkpoint:
    """With a UNet of few layers: a compiler takes seconds for each."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(16,),
        attention_head_dim=4,
        norm_num_groups=8,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
    )
    unet = unet.eval().requires_grad_(False)
    return replace(checkpoint, unet=unet, footprint=Footprint(unet, [], checkpoint.device))


@pytest.fixture(autouse=True)
def _nothing_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each test begins with an empty compiler, and a cache of its own."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    # More would be processes of their own, and each imports torch.
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what stands around the compiler is tested: graphs are traced, and run as they are."""
    monkeypatch.setattr(predictor, "BACKEND", "eager")


def open_renderer(
    checkpoint: Checkpoint, *, exact: bool = False, profile: Profile | None = None, **options: Any
) -> Any:
    rooms = Rooms(checkpoint=checkpoint, most=ROWS, profile=profile or Profile())
    progress = Progress()
    predictor = Predictor(checkpoint, rooms, progress, **{"switch": "on", **options})
    layout = ExactLayout(checkpoint, rooms, predictor) if exact else tight
    return Renderer(checkpoint, progress, layout, rooms, predictor=predictor)


def mixed(count: int) -> list[Sample]:
    """Samples that differ in prompt, sampler, steps and scale."""
    return [
        Sample(
            model="tiny",
            prompt=f"picture {i}",
            sampler=SAMPLERS[i % len(SAMPLERS)],
            steps=3 + i % 4,
            scale=(1.0, 5.0, 7.5)[i % 3],
            width=32,
            height=32,
            seed=i,
        )
        for i in range(count)
    ]


def render(open_engine: Any, renderer: Renderer, count: int = 24) -> list[Any]:
    with open_engine(renderer=renderer, max_rows=ROWS) as engine:
        futures = [engine.submit(sample) for sample in mixed(count)]
        return [future.result() for future in futures]


def graphs() -> int:
    """Compiled so far."""
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_queue_gives_the_same_images_and_is_compiled_once(open_engine: Any, small: Checkpoint) -> None:
    expected = render(open_engine, Renderer(small))
    made = render(open_engine, open_renderer(small))
    assert graphs() == 1
    assert sum(picture.variant.get("compiled", False) for picture in made) > 12
    for one, other in zip(made, expected, strict=True):
        assert abs(one.pixels.astype(int) - other.pixels).max() <= 2


@pytest.mark.usefixtures("quick")
def test_full_calls_are_compiled_and_the_tail_is_called_as_it_is(
    open_engine: Any, small: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    renderer = open_renderer(small)
    with caplog.at_level(logging.INFO, "worker.predictor"):
        pictures = render(open_engine, renderer)
    assert {picture.rows for picture in pictures if picture.variant.get("compiled")} == {ROWS}
    assert "were compiled in" in caplog.text
    assert renderer._progress.seconds["compile"] > 0
    assert renderer._predictor.fit(32, 32, 1) == 1


@pytest.mark.usefixtures("quick")
def test_a_call_that_is_nearly_full_is_padded_to_the_compiled_one(open_engine: Any, small: Checkpoint) -> None:
    renderer = open_renderer(small)
    render(open_engine, renderer, 8)
    renderer._predictor._calls[32, 32].gain = 1.5
    assert [renderer._predictor.fit(32, 32, used) for used in range(3, 9)] == [3, 4, 5, 8, 8, 8]


@pytest.mark.usefixtures("quick")
def test_each_size_is_compiled_for_itself(open_engine: Any, small: Checkpoint, make_sample: Any) -> None:
    with open_engine(renderer=open_renderer(small), max_rows=ROWS) as engine:
        sizes = [32, 64] * 16
        for future in [engine.submit(make_sample(width=size, seed=seed)) for seed, size in enumerate(sizes)]:
            future.result()
    assert graphs() == 2


@pytest.mark.usefixtures("quick")
def test_exact_mode_compiles_before_its_self_test(open_engine: Any, small: Checkpoint) -> None:
    pictures = render(open_engine, open_renderer(small, exact=True), 8)
    assert all(picture.exact and picture.variant["compiled"] for picture in pictures)


def refuse(*_: object) -> Any:
    raise RuntimeError("there is no compiler here\nand no card")


def test_where_compiling_fails_one_line_says_so_and_calls_stay_as_they_are(
    open_engine: Any, small: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(predictor, "BACKEND", refuse)
    expected = render(open_engine, Renderer(small, rooms=Rooms(checkpoint=small, most=ROWS)))
    made = render(open_engine, open_renderer(small))
    assert [one.pixels.tobytes() for one in made] == [other.pixels.tobytes() for other in expected]
    assert not any("compiled" in picture.variant for picture in made)
    assert [record.levelname for record in caplog.records if record.name == "worker.predictor"] == ["WARNING"]
    assert "no compiler here" in caplog.text


def test_a_process_that_dies_of_compiling_is_the_last_to_try(
    open_engine: Any, small: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lose(*_: object) -> Any:
        raise DeviceLost("The device is lost")

    monkeypatch.setattr(Predictor, "_make_call", lose)
    profile = Profile(tmp_path / "profile.json")
    with pytest.raises(DeviceLost):
        render(open_engine, open_renderer(small, profile=profile))
    known = open_renderer(small, profile=profile).rooms.of(32, 32).compiled[ROWS]
    assert known.gain == 1
    assert not decide(small, monkeypatch, 10**9, known)


@pytest.mark.usefixtures("quick")
def test_less_room_takes_another_compilation(small: Checkpoint, open_engine: Any) -> None:
    limit = [ROWS]

    def full(latents: torch.Tensor) -> float:
        if len(latents) > limit[0]:
            raise torch.OutOfMemoryError("full")
        return 0.0

    renderer = open_renderer(replace(small, unet=Fickle(small.unet, full)))
    render(open_engine, renderer, 8)
    limit[0] = 4
    renderer._predictor._calls.clear()
    assert {picture.rows for picture in render(open_engine, renderer, 8)} <= {4, ROWS}
    assert renderer._predictor._calls[32, 32].rows == 4


@pytest.mark.usefixtures("quick")
def test_streamed_weights_are_never_compiled(open_engine: Any, small: Checkpoint) -> None:
    small = replace(small, footprint=Footprint(small.unet, [], small.device))
    small.footprint.placement = Placement.STREAMED
    assert not any("compiled" in picture.variant for picture in render(open_engine, open_renderer(small), 8))


def decide(small: Checkpoint, monkeypatch: pytest.MonkeyPatch, work: int, known: Compiled | None = None) -> bool:
    """Whether `auto` compiles with so much work, where a full call takes a tenth of a second."""
    monkeypatch.setattr(predictor, "is_on", lambda *_: True)
    renderer = open_renderer(small, switch="auto", work=lambda *_: work)
    rooms, found = renderer.rooms, renderer._predictor
    monkeypatch.setattr(Predictor, "_time", lambda *_: 0.1)
    rooms.of(32, 32).tuner.freeze()
    full = found._full_call(32, 32)
    full.known = known or full.known
    return bool(found._pays(full, [], 32, 32))


@pytest.mark.parametrize(
    ("work", "known", "wanted"),
    [
        (0, None, False),
        (79_000, None, False),
        (81_000, None, True),
        (8_000, Compiled(seconds=10.0, gain=2.0), True),
        (10**9, Compiled(seconds=10.0, gain=0.9), False),
    ],
)
def test_auto_compiles_where_the_queue_pays_for_it(
    small: Checkpoint, monkeypatch: pytest.MonkeyPatch, work: int, known: Compiled | None, wanted: bool
) -> None:
    assert decide(small, monkeypatch, work, known) is wanted


def test_auto_compiles_nothing_on_the_cpu(open_engine: Any, small: Checkpoint) -> None:
    pictures = render(open_engine, open_renderer(small, switch="auto", work=lambda *_: 10**9), 8)
    assert not any("compiled" in picture.variant for picture in pictures)


@pytest.mark.usefixtures("quick")
def test_what_compiling_took_is_known_to_the_next_worker(open_engine: Any, small: Checkpoint, tmp_path: Path) -> None:
    profile = Profile(tmp_path / "profile.json")
    render(open_engine, open_renderer(small, profile=profile), 8)
    (found,) = open_renderer(small, profile=profile).rooms.of(32, 32).compiled.items()
    assert found[0] == ROWS
    assert found[1].seconds > 0
    assert found[1].gain > 0


@pytest.mark.usefixtures("quick")
@torch.no_grad()
def test_a_call_of_another_shape_is_not_given_to_the_compiled_one(small: Checkpoint) -> None:
    found = open_renderer(small)._predictor
    found._rooms.of(32, 32).tuner.freeze()
    for count, tokens, compiled in ((ROWS, 77, True), (ROWS, 154, False), (2, 77, False)):
        rows = Rows(torch.zeros(count, 8, 8, 8), torch.zeros(count), Conditions(torch.zeros(count, tokens, 32)))
        assert found.predict(rows, 32, 32)[1] is compiled
