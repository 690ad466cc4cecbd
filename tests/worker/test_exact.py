"""Exact mode: the same bits whatever shares the calls; and what happens where a device does not give them."""

import logging
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.conftest import CPU
from tests.worker.pipelines import save_sdxl
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.exact import CallShape, ExactLayout, find_fault, make_deterministic
from worker.layout import Layout
from worker.renderer import Renderer
from worker.room import Rooms
from worker.sample import Picture, Sample

ROWS = 8


def open_renderer(checkpoint: Checkpoint, rows: int = ROWS) -> Renderer:
    rooms = Rooms(checkpoint=checkpoint, most=rows)
    return Renderer(checkpoint, layout=ExactLayout(checkpoint, rooms), rooms=rooms)


@pytest.fixture
def render(open_engine: Any, checkpoint: Checkpoint) -> Callable[..., list[Picture]]:
    """Pictures of samples, made together in exact mode by an engine of their own."""

    def rendered(samples: list[Sample], of: Checkpoint = checkpoint) -> list[Picture]:
        with open_engine(renderer=open_renderer(of), max_rows=ROWS) as engine:
            futures = [engine.submit(sample) for sample in samples]
            return [future.result() for future in futures]

    return rendered


@pytest.fixture(scope="session")
def mixed() -> list[Sample]:
    """Samplers × scales, with different prompts and numbers of steps."""
    samplers = ("DDIM", "PLMS", "DPM++ 2M Karras", "Euler a", "Heun", "DPM++ 2M SDE")
    size = {"width": 32, "height": 32}
    return [
        Sample(model="tiny", prompt=f"picture {i}", sampler=sampler, steps=3 + i % 4, scale=scale, seed=i, **size)
        for i, (sampler, scale) in enumerate(product(samplers, (1.0, 7.5)))
    ]


@pytest.fixture
def expected(render: Any, mixed: list[Sample]) -> dict[Sample, bytes]:
    return {sample: picture.pixels.tobytes() for sample, picture in zip(mixed, render(mixed), strict=True)}


@pytest.mark.parametrize("company", ["shuffled", "alone", "among others"])
def test_the_bits_of_an_image_do_not_depend_on_its_company(
    render: Any, mixed: list[Sample], expected: dict[Sample, bytes], company: str
) -> None:
    shuffled = random.Random(1).sample(mixed, len(mixed))
    others = [replace(sample, prompt="other", seed=100 + i, steps=5) for i, sample in enumerate(mixed)]
    runs = {
        "shuffled": [shuffled],
        "alone": [[sample] for sample in mixed[:4]],
        "among others": [[sample for pair in zip(others, shuffled, strict=True) for sample in pair]],
    }
    for samples in runs[company]:
        for sample, picture in zip(samples, render(samples), strict=True):
            assert (picture.exact, picture.rows, picture.images) == (True, ROWS, 4)
            assert expected.get(sample) in (None, picture.pixels.tobytes())


def test_sdxl_is_exact_too(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(save_sdxl(tmp_path / "tiny")), **CPU)
    assert isinstance(checkpoint, Checkpoint)
    assert open_renderer(checkpoint)._layout(32, 32) == Layout(ROWS, 4, exact=True)


def test_without_exact_mode_calls_are_as_small_as_they_can_be(open_engine: Any, make_sample: Any) -> None:
    with open_engine() as engine:
        picture = engine.submit(make_sample()).result()
    assert (picture.exact, picture.rows, picture.images) == (False, 2, 1)


class Fickle(torch.nn.Module):
    """A UNet that computes a row differently by what `spoil` says of the call's latents."""

    def __init__(self, unet: Any, spoil: Callable[[torch.Tensor], torch.Tensor | float]) -> None:
        super().__init__()
        self.unet, self.config, self.spoil = unet, unet.config, spoil

    def forward(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor]:
        result = self.unet(latents, *args, **kwargs)[0]
        return (result + self.spoil(latents),)


def by_place(latents: torch.Tensor) -> torch.Tensor:
    return 1e-5 * torch.arange(len(latents)).view(-1, 1, 1, 1)


def by_company(latents: torch.Tensor) -> float:
    return 1e-3 * float(latents.mean())


def by_chance(_: torch.Tensor) -> float:
    return 1e-3 * random.random()


@pytest.mark.parametrize(("spoil", "word"), [(by_place, "place"), (by_company, "place|company"), (by_chance, "repeat")])
def test_the_self_test_finds_what_makes_a_difference(checkpoint: Checkpoint, spoil: Any, word: str) -> None:
    fickle = replace(checkpoint, unet=Fickle(checkpoint.unet, spoil))
    shape = CallShape(32, 32, ROWS, 4)
    assert not find_fault(Renderer(checkpoint, layout=lambda *_: Layout(ROWS, 4)), shape)
    fault = find_fault(Renderer(fickle, layout=lambda *_: Layout(ROWS, 4)), shape)
    assert any(part in fault for part in word.split("|"))


def test_a_vae_that_is_not_exact_is_found(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = checkpoint.vae.decode

    def decode_by_place(latents: torch.Tensor, **options: Any) -> tuple[torch.Tensor]:
        decoded = decode(latents, **options)[0]
        return (decoded + 0.1 * torch.arange(len(decoded)).view(-1, 1, 1, 1),)

    monkeypatch.setattr(checkpoint.vae, "decode", decode_by_place)
    fault = find_fault(Renderer(checkpoint, layout=lambda *_: Layout(ROWS, 4)), CallShape(32, 32, ROWS, 4))
    assert fault == "a canary was decoded differently at another place"


def test_a_failed_self_test_gives_each_image_its_own_calls(
    render: Any, checkpoint: Checkpoint, make_sample: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fickle = replace(checkpoint, unet=Fickle(checkpoint.unet, by_place))
    samples = [make_sample(seed=seed, scale=scale) for seed, scale in enumerate((7.5, 1.0, 3.0))]
    with caplog.at_level(logging.WARNING, "worker.exact"):
        pictures = render(samples, fickle)
    assert [(picture.exact, picture.rows, picture.images) for picture in pictures] == [
        (False, 2, 1), (False, 1, 1), (False, 2, 1)
    ]  # fmt: skip
    assert [p.pixels.tobytes() for p in pictures] == [render([s], fickle)[0].pixels.tobytes() for s in samples]
    assert "not exact" in caplog.text


@pytest.fixture
def _same_flags_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test asks of torch for this process is taken back."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    yield
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("_same_flags_after")
def test_algorithms_are_deterministic_where_there_are_such() -> None:
    make_deterministic()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (False, "highest")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_an_error_in_the_self_test_costs_the_claim_and_no_image(
    render: Any, checkpoint: Checkpoint, make_sample: Any
) -> None:
    def refuse(latents: torch.Tensor) -> float:
        if torch.are_deterministic_algorithms_enabled() and len(latents):
            raise RuntimeError("this algorithm does not have a deterministic implementation")
        return 0.0

    (picture,) = render([make_sample()], replace(checkpoint, unet=Fickle(checkpoint.unet, refuse)))
    assert (picture.exact, picture.rows) == (False, 2)


def test_out_of_memory_makes_the_shape_smaller_and_tests_it_anew(
    render: Any, checkpoint: Checkpoint, make_sample: Any
) -> None:
    def full(latents: torch.Tensor) -> float:
        if len(latents) > 4:
            raise torch.OutOfMemoryError("full")
        return 0.0

    small = replace(checkpoint, unet=Fickle(checkpoint.unet, full))
    pictures = render([make_sample(seed=seed) for seed in range(5)], small)
    assert {(picture.exact, picture.rows) for picture in pictures} == {(True, 4)}


def test_an_image_whose_shape_changed_on_the_way_is_not_exact(checkpoint: Checkpoint, make_sample: Any) -> None:
    renderer = open_renderer(checkpoint)
    flight = renderer.start(make_sample(steps=2))
    renderer.step([flight])
    assert flight.exact
    renderer.rooms.of(32, 32).tuner.rows = 4
    renderer.step([flight])
    assert (flight.exact, flight.rows) == (False, ROWS)
