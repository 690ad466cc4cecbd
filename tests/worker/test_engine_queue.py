"""The engine between checkpoints, priorities and people who change their minds."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from worker.checkpoints import Checkpoint
from worker.engine import Engine
from worker.errors import CheckpointMissing, SampleDropped
from worker.progress import Progress
from worker.renderer import Renderer
from worker.sample import Form, Picture, Sample

Futures = Sequence["Future[Picture]"]


class Bench:
    """An engine on checkpoints named by a letter, which opens none before it may; what it has opened."""

    def __init__(self, checkpoint: Checkpoint, **options: Any) -> None:
        self._checkpoint = checkpoint
        self.may_open = threading.Event()
        self.opened: list[str] = []
        self.last: weakref.ref[Renderer] | None = None
        self.left_over = 0
        self.engine = Engine(self._open, **options)

    def _open(self, form: Form, progress: Progress) -> Renderer:
        assert self.may_open.wait(30)
        model = form.model
        self.opened.append(str(form))
        self.left_over += self.last is not None and self.last() is not None
        if model == "missing":
            raise CheckpointMissing("There is no such checkpoint.")
        if model == "odd":
            raise RuntimeError("Nobody expected this.")
        renderer = Renderer(replace(self._checkpoint, name=model, hash=model), progress)
        self.last = weakref.ref(renderer)
        return renderer

    def submit(self, samples: Sequence[Sample], priority: int = 5) -> Futures:
        return [self.engine.submit(sample, priority) for sample in samples]

    def finish(self, futures: Futures) -> None:
        """Let it work until these are done."""
        self.may_open.set()
        assert not wait(futures, 60).not_done

    def order(self, **batches: Futures) -> str:
        """Let it work; the names of the batches in the order in which their samples end."""
        owner = {future: name for name, futures in batches.items() for future in futures}
        ended: list[Future[Picture]] = []
        for future in owner:
            future.add_done_callback(ended.append)
        self.finish(list(owner))
        return "".join(owner[future] for future in ended)


@pytest.fixture
def bench(checkpoint: Checkpoint) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(checkpoint, **{"max_rows": 4, "vae_batch": 1, **options}))
        return made[-1]

    yield make
    for one in made:
        one.may_open.set()
        one.engine.close(finish=False)


@pytest.fixture
def samples(make_sample: Callable[..., Sample]) -> Callable[..., list[Sample]]:
    """So many samples of two steps."""

    def make(count: int, **fields: Any) -> list[Sample]:
        return [make_sample(**{"model": "a", "steps": 2, "seed": seed, **fields}) for seed in range(count)]

    return make


def test_two_checkpoints_in_turn_are_opened_once_each(bench: Any, samples: Any) -> None:
    one = bench()
    mixed = [sample for pair in zip(samples(8), samples(8, model="b"), strict=True) for sample in pair]
    one.finish(futures := one.submit(mixed))
    assert one.opened == ["a", "b"]
    assert [future.result().checkpoint_hash for future in futures] == ["a", "b"] * 8


def test_from_noise_and_from_an_image_a_checkpoint_is_opened_once(bench: Any, samples: Any, init_image: Path) -> None:
    one = bench()
    one.finish(one.submit([*samples(5), *samples(5, init_image=init_image, strength=0.5)]))
    assert one.opened == ["a"]


def test_precisions_that_take_turns_open_a_checkpoint_once_each(bench: Any, samples: Any) -> None:
    one = bench()
    one.finish(one.submit([samples(1, precision=name)[0] for name in ("float32", "bfloat16") * 4]))
    assert one.opened == ["a in float32", "a in bfloat16"]


def test_nothing_is_left_of_a_checkpoint_when_the_next_is_opened(bench: Any, samples: Any) -> None:
    one = bench()
    one.finish(one.submit([*samples(3), *samples(3, model="b"), *samples(1, model="c")]))
    assert (one.opened, one.left_over) == (["a", "b", "c"], 0)


def test_an_urgent_batch_passes_a_large_one(bench: Any, samples: Any) -> None:
    one = bench()
    large = one.submit(samples(12))
    order = one.order(large=large, urgent=one.submit(samples(2), priority=0))
    assert order.replace("large", "l").replace("urgent", "u").startswith("uu")


def test_an_urgent_batch_has_its_checkpoint_opened_at_once(bench: Any, samples: Any) -> None:
    one = bench()
    large = one.submit(samples(4))
    one.finish([*large, *one.submit(samples(2, model="b"), priority=0)])
    assert one.opened == ["b", "a"]


@pytest.mark.parametrize(("model", "error"), [("missing", CheckpointMissing), ("odd", RuntimeError)])
def test_a_checkpoint_that_cannot_be_opened_fails_only_who_wants_it(
    bench: Any, samples: Any, model: str, error: type[Exception]
) -> None:
    one = bench()
    bad, good = one.submit(samples(6, model=model)), one.submit(samples(3))
    one.finish([*bad, *good])
    assert {type(future.exception()) for future in bad} == {error}
    assert all(future.result().checkpoint_hash == "a" for future in good)
    assert one.opened == [model, "a"]


def test_a_refused_checkpoint_does_not_cost_the_open_one_again(bench: Any, samples: Any) -> None:
    one = bench()
    for _ in range(3):
        one.finish(one.submit([*samples(1), *samples(2, model="missing")]))
    assert one.opened == ["a", "missing", "a"]


def test_a_sample_cancelled_while_it_waits_is_forgotten_and_its_owner_told(bench: Any, samples: Any) -> None:
    one = bench()
    futures = one.submit(samples(9))
    for future in futures[5:]:
        assert future.cancel()
    one.may_open.set()
    assert len([future for future in as_completed(futures, 60) if future.cancelled()]) == 4
    assert one.engine.progress.images == 5


def test_no_checkpoint_is_opened_for_cancelled_samples(bench: Any, samples: Any) -> None:
    one = bench()
    kept, dropped = one.submit(samples(3)), one.submit(samples(3, model="b"))
    for future in dropped:
        future.cancel()
    one.finish([*kept, *dropped])
    one.finish(one.submit(samples(1)))
    assert one.opened == ["a"]


def test_a_sample_dropped_on_the_device_ends_within_a_step(bench: Any, samples: Any) -> None:
    one = bench(max_rows=8)
    dropped, kept = one.submit(samples(2, steps=900)), one.submit(samples(2))
    one.finish(kept)
    one.engine.drop(dropped)
    one.finish(dropped)
    assert {type(future.exception()) for future in dropped} == {SampleDropped}
    assert one.engine.progress.steps < 900


def test_a_sample_dropped_while_it_waits_is_cancelled(bench: Any, samples: Any) -> None:
    one = bench()
    futures = one.submit(samples(9))
    one.engine.drop(futures[5:])
    one.finish(futures[:5])
    assert all(future.cancelled() for future in futures[5:])


def test_a_sample_that_is_made_alone_is_on_board_alone_until_it_is_saved(bench: Any, samples: Any) -> None:
    aboard: list[str] = []
    one = bench(settle=lambda: aboard.append("settled"))
    before, alone, after = (
        [
            one.engine.submit(sample, alone=name == "alone", on_board=partial(aboard.append, name))
            for sample in samples(2)
        ]
        for name in ("before", "alone", "after")
    )
    one.finish([*before, *alone, *after])
    assert aboard == [*["before"] * 2, *["settled", "alone"] * 2, "settled", *["after"] * 2]


def test_an_engine_with_nothing_to_do_is_hungry(bench: Any) -> None:
    assert bench().engine.is_hungry


def test_an_engine_is_hungry_while_what_waits_fills_no_call(bench: Any, samples: Any) -> None:
    called = threading.Event()
    one = bench(on_hungry=called.set)
    futures = one.submit(samples(1))
    one.finish(futures)
    assert called.is_set()


def test_an_engine_is_not_hungry_while_enough_waits(bench: Any, samples: Any) -> None:
    hungry: list[int] = []
    one: Bench = bench(on_hungry=lambda: hungry.append(one.engine.progress.images))
    one.finish(one.submit(samples(10)))
    assert hungry
    assert min(hungry) >= 4


def test_a_closed_engine_is_not_hungry(bench: Any) -> None:
    one = bench()
    one.engine.close(finish=True)
    assert not one.engine.is_hungry


def test_progress_says_what_the_time_went_on(bench: Any, samples: Any) -> None:
    one = bench()
    one.finish(one.submit(samples(4)))
    one.engine.close(finish=True)
    progress = one.engine.progress
    assert (progress.steps, progress.rows_used, progress.rows_possible) == (4, 16, 16)
    assert (progress.images, progress.switches) == (4, 1)
    assert all(progress.seconds[stage] > 0 for stage in ("text", "unet", "sampler", "vae", "open", "wait", "other"))
