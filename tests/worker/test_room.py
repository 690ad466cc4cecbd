"""Running out of memory: every rung of the ladder, on real models that say they are full."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worker.checkpoints import Checkpoint, open_checkpoint
from worker.engine import Engine
from worker.errors import CheckpointTooLarge, OutOfMemory
from worker.footprint import Placement
from worker.memory import DeviceMemory
from worker.profile import Profile, Setup, Speed
from worker.renderer import Renderer
from worker.room import Room, Rooms
from worker.sample import Pixels, Sample

Fails = Callable[[Checkpoint, torch.Tensor], bool]
"""Whether a call with that first argument runs out of memory."""
CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture
def own(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint that may be changed."""
    return copy.deepcopy(checkpoint)


def fill(checkpoint: Checkpoint, module: torch.nn.Module, fails: Fails) -> list[int]:
    """Let calls of a module run out of memory; the list grows by their batch sizes, those that failed too."""
    called: list[int] = []

    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        called.append(len(arguments[0]))
        if fails(checkpoint, arguments[0]):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    module.register_forward_pre_hook(check)
    return called


def render(checkpoint: Checkpoint, samples: list[Sample], rooms: Rooms | None = None, rows: int = 16) -> list[Pixels]:
    engine = Engine(lambda _, progress: Renderer(checkpoint, progress, rooms=rooms), max_rows=rows)
    try:
        # Held, so that the engine sees all at once.
        with engine._condition:
            futures = [engine.submit(sample) for sample in samples]
        return [future.result().pixels for future in futures]
    finally:
        engine.close(finish=False)


def are_close(some: list[Pixels], others: list[Pixels]) -> bool:
    """Whether pictures differ by the last digit at most."""
    return bool(np.abs(np.stack(some).astype(int) - np.stack(others)).max() <= 1)


def make_rooms(checkpoint: Checkpoint, folder: Path, **options: Any) -> Rooms:
    return Rooms(checkpoint=checkpoint, most=16, profile=Profile(folder / "profile.json"), **options)


def test_rows_that_do_not_fit_are_halved_and_make_the_same_images(
    own: Checkpoint, checkpoint: Checkpoint, make_sample: Any, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [make_sample(seed=seed) for seed in range(9)]
    fill(own, own.unet, lambda _, latents: len(latents) > 5)
    assert np.array_equal(render(own, samples), render(checkpoint, samples, rows=4))
    assert "Out of memory: going on with at most 4 rows a UNet call." in caplog.text


def test_out_of_memory_in_the_middle_goes_on_with_the_same_latents(
    own: Checkpoint, checkpoint: Checkpoint, make_sample: Any
) -> None:
    samples = [make_sample(seed=seed, steps=6, sampler="DPM++ 2M Karras") for seed in range(4)]
    called = fill(own, own.unet, lambda _, latents: len(latents) > 4 and len(called) > 3)
    assert are_close(render(own, samples), render(checkpoint, samples))
    assert called[:6] == [8, 8, 8, 8, 8, 4]


def test_rows_that_did_not_fit_are_not_tried_again(own: Checkpoint, make_sample: Any, tmp_path: Path) -> None:
    samples = [make_sample(seed=seed) for seed in range(9)]
    fill(own, own.unet, lambda _, latents: len(latents) > 5)
    render(own, samples, make_rooms(own, tmp_path))
    called = fill(own, own.unet, lambda *_: False)
    render(own, samples, make_rooms(own, tmp_path))
    assert max(called) == 4


@pytest.mark.parametrize("needed", [Placement.VISITING, Placement.STREAMED])
def test_for_a_sample_alone_the_weights_make_way(
    own: Checkpoint, checkpoint: Checkpoint, make_sample: Any, tmp_path: Path, needed: Placement
) -> None:
    fill(own, own.unet, lambda full, _: full.footprint.placement < needed)
    (made,) = render(own, [make_sample()], make_rooms(own, tmp_path))
    assert own.footprint.placement is needed
    assert np.array_equal(made, render(checkpoint, [make_sample()])[0])
    again = copy.deepcopy(checkpoint)
    make_rooms(again, tmp_path).of(32, 32)
    assert again.footprint.placement is needed


def test_what_fits_in_no_way_fails_with_advice_and_the_engine_goes_on(
    own: Checkpoint, make_sample: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fill(own, own.unet, lambda _, latents: len(latents) > 1)
    with pytest.raises(OutOfMemory, match="image of 32x32 does not fit in the memory of cpu, even alone; make it sma"):
        render(own, [make_sample()])
    assert "text encoder and VAE now wait in main memory" in caplog.text
    assert "the UNet's weights now stream through the device" in caplog.text
    assert render(own, [make_sample(scale=1.0)])[0].shape == (32, 32, 3)


def test_the_vae_decodes_fewer_at_a_time(
    own: Checkpoint, make_sample: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [make_sample(seed=seed) for seed in range(5)]
    expected = render(own, samples)
    called = fill(own, own.vae.decoder, lambda _, latents: len(latents) > 1)
    assert are_close(render(own, samples, make_rooms(own, tmp_path)), expected)
    assert "Out of memory: the VAE now decodes at most 2 images at a time." in caplog.text
    assert (sorted(set(called)), make_rooms(own, tmp_path).of(32, 32).vae_batch) == ([1, 2, 4], 1)


def test_an_image_too_large_for_the_vae_is_decoded_in_tiles(
    own: Checkpoint, make_sample: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample(width=128, height=96)
    fill(own, own.vae.decoder, lambda _, latents: max(latents.shape[2:]) > 16)
    (made,) = render(own, [sample], make_rooms(own, tmp_path))
    assert made.shape == (96, 128, 3)
    assert "decodes 128x96 in tiles, which changes pictures slightly" in caplog.text
    assert make_rooms(own, tmp_path).of(128, 96).tile == 16
    assert own.footprint.placement is Placement.RESIDENT


def test_tiles_are_for_decoding_alone(own: Checkpoint, make_sample: Any, init_image: Path) -> None:
    sample = make_sample(width=128, height=128, init_image=init_image)
    encoded = fill(own, own.vae.encoder, lambda *_: False)
    fill(own, own.vae.decoder, lambda _, latents: latents.shape[2] > 16)
    assert [made.shape for made in render(own, [sample, sample])] == [(128, 128, 3)] * 2
    assert len(encoded) == 2


def test_weights_make_way_for_the_vae_where_tiles_do_not_help(own: Checkpoint, make_sample: Any) -> None:
    fill(own, own.vae.decoder, lambda full, _: full.footprint.placement < Placement.VISITING)
    assert render(own, [make_sample()])[0].shape == (32, 32, 3)
    fill(own, own.vae.decoder, lambda *_: True)
    with pytest.raises(OutOfMemory):
        render(own, [make_sample()])


def test_weights_make_way_for_a_prompt_and_an_init_image(
    own: Checkpoint, checkpoint: Checkpoint, make_sample: Any, init_image: Path
) -> None:
    sample = make_sample(init_image=init_image)
    fill(own, own.text_encoder, lambda full, _: full.footprint.placement < Placement.VISITING)
    fill(own, own.vae.encoder, lambda full, _: full.footprint.placement < Placement.STREAMED)
    assert np.array_equal(render(own, [sample])[0], render(checkpoint, [sample])[0])


def test_a_prompt_that_cannot_be_encoded_fails_its_job_alone(own: Checkpoint, make_sample: Any) -> None:
    errors = iter([True] * 3)
    fill(own, own.text_encoder, lambda *_: next(errors, False))
    with pytest.raises(OutOfMemory):
        render(own, [make_sample()])
    assert render(own, [make_sample()])[0].shape == (32, 32, 3)


def test_what_a_library_calls_differently_is_out_of_memory_too(own: Checkpoint, make_sample: Any) -> None:
    errors = iter([RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), RuntimeError("CUDA error: out of memory")])

    def fail(*_: Any) -> None:
        if error := next(errors, None):
            raise error

    own.unet.register_forward_pre_hook(fail)
    assert len(render(own, [make_sample(seed=seed) for seed in range(8)])) == 8


def refuse_device(monkeypatch: pytest.MonkeyPatch, models: tuple[type, ...], places: tuple[type, ...]) -> None:
    """Let `to` of models run out of memory, where the place is of one of the types: the device is a torch.device."""
    for model in models:

        def to(self: Any, *arguments: Any, _to: Any = model.to, **options: Any) -> Any:  # type: ignore[attr-defined]
            if arguments and isinstance(arguments[0], places):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return _to(self, *arguments, **options)

        monkeypatch.setattr(model, "to", to)


def test_a_checkpoint_that_does_not_fit_is_loaded_offloaded(
    checkpoint: Checkpoint, checkpoint_folder: Path, make_sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_device(monkeypatch, (type(checkpoint.unet),), (torch.device,))
    small = open_checkpoint(str(checkpoint_folder), **CPU)
    assert small.footprint.placement is Placement.STREAMED
    monkeypatch.undo()
    assert np.array_equal(render(small, [make_sample()]), render(checkpoint, [make_sample()]))


def test_a_checkpoint_that_fits_in_no_way_is_refused_with_advice(
    checkpoint: Checkpoint, checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_device(monkeypatch, (type(checkpoint.unet),), (torch.device, str))
    with pytest.raises(CheckpointTooLarge, match="does not fit in the memory of cpu, even with its weights outside"):
        open_checkpoint(str(checkpoint_folder), **CPU)


def test_an_offloaded_checkpoint_makes_the_same_image(
    checkpoint: Checkpoint, checkpoint_folder: Path, make_sample: Any, tmp_path: Path
) -> None:
    offloaded = open_checkpoint(str(checkpoint_folder), **CPU, offload=True)
    assert offloaded.footprint.placement is Placement.VISITING
    assert make_rooms(offloaded, tmp_path).of(32, 32).vae_batch == 1
    assert np.array_equal(render(offloaded, [make_sample()]), render(checkpoint, [make_sample()]))


class Shared(DeviceMemory):
    """A card that others use too, of which this process may have 6 GiB."""

    def __init__(self, left: int) -> None:
        super().__init__(torch.device("cpu"))
        self.left = left
        self.limit, self.capped = 6 * 2**30, True

    def share(self) -> int:
        return self.left


def test_what_was_found_while_others_had_the_card_is_forgotten_when_there_is_room(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    setup = Setup(device="card", memory=100, checkpoint="abc", dtype="float32", width=32, height=32, torch="2")
    profile = Profile(tmp_path / "profile.json")
    profile.learn(setup, settled=2, too_many=4, vae_batch=1, share=50)
    rooms = [Room(checkpoint, setup, profile, Shared(left), most=16, tuned=False) for left in (54, 100, 54)]
    assert [(room.rows, room.vae_batch) for room in rooms] == [(2, 1), (16, 4), (16, 4)]


def test_rows_that_are_fixed_are_not_those_that_were_found_best(checkpoint: Checkpoint, tmp_path: Path) -> None:
    setup = Setup(device="card", memory=100, checkpoint="abc", dtype="float32", width=32, height=32, torch="2")
    profile = Profile(tmp_path / "profile.json")
    profile.learn(setup, settled=8, speeds={8: Speed(1.0, 50)})
    rooms = [Room(checkpoint, setup, profile, Shared(100), most=16, tuned=tuned) for tuned in (True, False)]
    assert [room.rows for room in rooms] == [8, 16]


def test_the_advice_names_the_cap(own: Checkpoint) -> None:
    setup = Setup(device="card", memory=100, checkpoint="abc", dtype="float32", width=32, height=32, torch="2")
    room = Room(own, setup, Profile(), Shared(50), most=2, tuned=False)
    own.footprint.reach(Placement.STREAMED)
    with pytest.raises(OutOfMemory, match=r"the 6.0 GiB of card that this worker may take, .*, or raise --vram\."):
        room.shrink(2, 2, torch.OutOfMemoryError("CUDA out of memory."))


def test_a_worker_finds_its_rows_in_passing_and_the_next_one_begins_with_them(
    own: Checkpoint, make_sample: Any, tmp_path: Path
) -> None:
    samples = [make_sample(seed=seed, steps=20) for seed in range(40)]
    rooms = make_rooms(own, tmp_path, tuned=True)
    assert rooms.of(32, 32).rows == 4
    assert len(render(own, samples, rooms)) == 40
    tuner, again = rooms.of(32, 32).tuner, make_rooms(own, tmp_path, tuned=True).of(32, 32).tuner
    assert tuner.settled
    assert again.rows == tuner.rows


def test_a_frozen_room_keeps_its_rows(own: Checkpoint, make_sample: Any, tmp_path: Path) -> None:
    rooms = make_rooms(own, tmp_path, tuned=True, frozen=True)
    called = fill(own, own.unet, lambda *_: False)
    render(own, [make_sample(seed=seed, steps=10) for seed in range(16)], rooms)
    assert max(called) == 4
