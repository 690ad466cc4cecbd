"""Who shares the next step, in exact scenarios, in properties of any queue, and in a simulated night."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.batcher import AGEING, Batcher
from worker.sample import Shape

SMALL = Shape("a", 64, 64)
LARGE = Shape("a", 96, 64)
OTHER = Shape("b", 64, 64)
DELAY = 60


@dataclass(eq=False)
class Item:
    """A guided sample, if nothing else is said."""

    shape: Shape = SMALL
    rows: int = 2
    priority: int = 5
    left: int = 1
    alone: bool = False


@dataclass
class Clock:
    now: float = 0

    def __call__(self) -> float:
        return self.now


@dataclass
class Queue:
    """A batcher and its time; how many checkpoints it has opened."""

    max_rows: int = 4
    clock: Clock = field(default_factory=Clock)
    switches: int = 0

    def __post_init__(self) -> None:
        self.batcher: Batcher[Item] = Batcher(self.max_rows, delay=DELAY, clock=self.clock)

    def add(self, *items: Item, at: float | None = None) -> None:
        self.clock.now = self.clock.now if at is None else at
        for item in items:
            self.batcher.add(item)

    def share(self) -> list[Item]:
        before = self.batcher.form
        shared = self.batcher.share()
        self.switches += self.batcher.form != before
        return shared

    def step(self) -> list[Item]:
        """Share one step, and drop who has none left."""
        shared = self.share()
        for item in shared:
            item.left -= 1
            if not item.left:
                self.batcher.remove(item)
        return shared

    def drain(self) -> Iterator[list[Item]]:
        while shared := self.step():
            yield shared


def queue(*items: Item, max_rows: int = 4) -> Queue:
    made = Queue(max_rows)
    made.add(*items)
    return made


def test_an_empty_batcher_shares_nothing() -> None:
    assert not queue().batcher
    assert queue().share() == []


def test_samples_share_a_call_up_to_its_rows() -> None:
    items = [Item(), Item(rows=1), Item(rows=1), Item()]
    assert queue(*items).share() == items[:3]


def test_a_sample_joins_when_another_leaves() -> None:
    first, second, third = items = [Item(), Item(left=2), Item()]
    steps = queue(*items)
    assert steps.step() == [first, second]
    assert steps.step() == [second, third]


def test_a_sample_larger_than_the_limit_runs_alone() -> None:
    items = [Item(), Item()]
    assert queue(*items, max_rows=1).share() == items[:1]


def test_an_odd_row_goes_to_the_first_unguided_sample_behind() -> None:
    first, guided, behind, last = Item(rows=1), Item(), Item(rows=1), Item(rows=1)
    assert queue(first, Item(rows=1), guided, behind, last, max_rows=3).share()[2:] == [behind]


def test_who_was_passed_for_an_odd_row_is_next_when_there_are_two() -> None:
    items = [Item(left=2), Item(rows=1), Item(), Item(rows=1)]
    steps = queue(*items, max_rows=4)
    assert steps.step() == [items[0], items[1], items[3]]
    assert steps.step() == [items[0], items[2]]


def test_a_stream_of_unguided_samples_cannot_starve_a_guided_one() -> None:
    steps, guided = queue(Item(rows=1, left=1), Item(rows=1, left=2), max_rows=2), Item()
    steps.step()
    steps.add(guided)
    late = [Item(rows=1, left=2 + i % 2) for i in range(100)]
    for passed, item in enumerate(late):
        steps.add(item, at=20 * passed)
        if guided in steps.step():
            break
    assert guided.left == 0
    assert passed <= DELAY / 20 + 4


def test_an_urgent_sample_passes_those_that_wait() -> None:
    waiting, urgent = [Item(left=2) for _ in range(9)], Item(priority=0)
    steps = queue(*waiting)
    steps.share()
    steps.add(urgent, at=500)
    assert steps.step() == steps.step() == waiting[:2]
    assert steps.step() == [urgent, waiting[2]]


def test_an_urgent_sample_of_another_size_steps_at_once() -> None:
    steps, urgent = queue(*[Item(left=9) for _ in range(9)]), Item(LARGE, priority=0)
    steps.step()
    steps.add(urgent, at=500)
    assert steps.step() == [urgent]


def test_samples_of_one_priority_go_in_the_order_in_which_they_came() -> None:
    items = [Item(priority=i % 2) for i in range(9)]
    order = [item for shared in queue(*items).drain() for item in shared]
    assert order == [*items[::2], *items[1::2]]


def test_a_sample_that_has_waited_is_as_urgent_as_the_newest() -> None:
    patient, early, late = Item(priority=9), Item(priority=0), Item(priority=0)
    steps = queue(patient, max_rows=2)
    steps.add(early, at=9 * AGEING - 1)
    steps.add(late, at=9 * AGEING + 1)
    assert list(steps.drain()) == [[early], [patient], [late]]


def test_a_sample_that_runs_alone_waits_for_what_runs_and_has_no_company() -> None:
    running, alone, late = Item(left=2), Item(alone=True, left=2), Item()
    steps = queue(running, max_rows=8)
    steps.step()
    steps.add(alone, late)
    assert [steps.step() for _ in range(4)] == [[running], [alone], [alone], [late]]


def test_a_sample_that_runs_alone_waits_for_other_sizes_too() -> None:
    small, large, alone = Item(left=2), Item(LARGE, left=2), Item(alone=True)
    steps = queue(small, large)
    steps.share()
    steps.add(alone)
    assert [steps.step() for _ in range(5)] == [[small], [small], [large], [large], [alone]]


def test_a_sample_that_runs_alone_keeps_its_place_in_the_order() -> None:
    alone, urgent = Item(alone=True), Item(priority=0)
    assert list(queue(first := Item(), alone, urgent, max_rows=2).drain()) == [[urgent], [first], [alone]]


def test_a_sample_that_is_to_run_alone_can_be_withdrawn() -> None:
    steps = queue(alone := Item(alone=True))
    assert not steps.batcher.is_hungry()
    assert steps.batcher.withdraw() == [alone]
    assert not steps.batcher


def test_samples_of_another_size_do_not_share_a_call() -> None:
    assert list(queue(small := Item(), large := Item(LARGE)).drain()) == [[small], [large]]


def test_two_sizes_that_fill_their_calls_take_turns_by_age() -> None:
    items = [Item(shape) for _ in range(3) for shape in (SMALL, SMALL, LARGE, LARGE)]
    assert [shared[0].shape for shared in queue(*items).drain()] == [SMALL, LARGE] * 3


def test_a_size_that_fills_no_call_waits_for_more_of_it() -> None:
    steps = queue(few := Item(LARGE), *[Item() for _ in range(4)])
    assert [shared[0].shape for shared in islice(steps.drain(), 2)] == [SMALL, SMALL]
    more = Item(LARGE)
    steps.add(more, Item(), Item())
    assert steps.step() == [few, more]


def test_a_size_that_fills_no_call_waits_no_longer_than_the_delay() -> None:
    steps = queue(few := Item(LARGE))
    steps.add(Item(), Item(), at=DELAY)
    steps.add(Item(), Item(), at=DELAY + 1)
    assert [few in shared for shared in steps.drain()] == [False, True, False]


def test_the_open_checkpoint_is_kept_while_it_has_work() -> None:
    steps = queue(*[Item(shape) for _ in range(8) for shape in (SMALL, OTHER)])
    assert [shared[0].shape for shared in steps.drain()] == [SMALL] * 4 + [OTHER] * 4
    assert steps.switches == 2


def test_newcomers_keep_the_checkpoint_open_no_longer_than_the_delay() -> None:
    steps = queue(Item(), Item(), Item(OTHER))
    for seconds in range(0, 2 * DELAY, 10):
        steps.add(Item(), Item(), at=seconds)
    models = [shared[0].shape.model for shared in steps.drain()]
    assert models == ["a"] * 8 + ["b"] + ["a"] * 5


def test_an_urgent_sample_has_its_checkpoint_opened_when_what_runs_is_done() -> None:
    running = [Item(left=2), Item(left=3)]
    steps = queue(*running, Item(), Item())
    steps.step()
    steps.add(urgent := Item(OTHER, priority=0), at=500)
    assert [steps.step() for _ in range(3)] == [running, running[1:], [urgent]]


def test_nobody_joins_before_a_switch() -> None:
    steps = queue(Item(left=3), max_rows=8)
    steps.step()
    steps.add(Item(OTHER, priority=4))
    steps.add(Item(), at=AGEING)
    assert [len(shared) for shared in islice(steps.drain(), 3)] == [1, 1, 1]
    assert steps.batcher.form == OTHER.form


def test_with_fewer_rows_the_youngest_pause() -> None:
    items = [Item(), Item(), Item()]
    steps = queue(*items, max_rows=6)
    steps.share()
    steps.batcher.set_limit(SMALL, 4)
    assert steps.share() == items[:2]
    assert steps.batcher.running() == items


def test_nobody_is_admitted_while_another_pauses() -> None:
    items = [Item(left=2), Item(left=1), Item(left=1)]
    steps = queue(*items, max_rows=6)
    steps.share()
    steps.add(Item(rows=1))
    steps.batcher.set_limit(SMALL, 5)
    assert steps.step() == items[:2]
    assert len(steps.step()) == 3


def test_each_shape_has_its_own_limit() -> None:
    steps = queue(*[Item(shape) for shape in (SMALL, SMALL, SMALL, LARGE, LARGE, LARGE)], max_rows=6)
    steps.batcher.set_limit(LARGE, 2)
    assert [len(shared) for shared in steps.drain()] == [3, 1, 1, 1]
    assert (steps.batcher.limit(SMALL), steps.batcher.limit(LARGE)) == (6, 2)


def test_withdrawing_leaves_what_runs() -> None:
    items = [Item(), Item(), Item(), Item(LARGE)]
    steps = queue(*items)
    steps.share()
    assert steps.batcher.withdraw() == items[2:]
    assert steps.share() == items[:2]


def test_some_of_those_that_wait_can_be_withdrawn() -> None:
    items = [Item(), Item(OTHER), Item()]
    steps = queue(*items)
    assert steps.batcher.withdraw(lambda item: item.shape is OTHER) == [items[1]]
    assert list(steps.drain()) == [[items[0], items[2]]]


ITEMS = st.builds(
    Item,
    shape=st.sampled_from([SMALL, LARGE, OTHER, Shape("b", 96, 64), Shape("c", 64, 64)]),
    rows=st.integers(1, 2),
    priority=st.sampled_from([0, 4, 5, 9]),
    left=st.integers(1, 5),
)
#: Samples, with the seconds before each comes.
ARRIVALS = st.lists(st.tuples(ITEMS, st.floats(0, 200)), max_size=40)


@dataclass
class Admission:
    """A sample that has just been admitted, those that waited then, and those it came with."""

    item: Item
    waiting: list[Item]
    shared: list[Item]


def admissions(arrivals: list[tuple[Item, float]], max_rows: int) -> tuple[list[Admission], dict[Item, float], Queue]:
    """One sample comes a step until all have; who was admitted when, when each was due, and the queue."""
    steps, admitted, due = Queue(max_rows), [], {}
    waiting: list[Item] = []
    for item, seconds in [*arrivals, *[(None, 0.0)] * 400]:
        if item:
            steps.add(item, at=steps.clock.now + seconds)
            due[item] = steps.clock.now + item.priority * AGEING
            waiting = [*waiting, item]
        shared = steps.step()
        new = [item for item in shared if item in waiting]
        waiting = [item for item in waiting if item not in new]
        admitted += [Admission(item, waiting, shared) for item in new]
    return admitted, due, steps


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 9))
def test_every_sample_gets_its_steps(arrivals: list[tuple[Item, float]], max_rows: int) -> None:
    _, _, steps = admissions(arrivals, max_rows)
    assert not steps.batcher
    assert {item.left for item, _ in arrivals} <= {0}


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 9))
def test_a_call_has_one_shape_and_no_more_rows_than_its_limit(
    arrivals: list[tuple[Item, float]], max_rows: int
) -> None:
    for admission in admissions(arrivals, max_rows)[0]:
        assert sum(item.rows for item in admission.shared) <= max(max_rows, admission.shared[0].rows)
        assert len({item.shape for item in admission.shared}) == 1


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 9))
def test_nobody_is_passed_by_one_that_is_due_more_than_the_delay_later(
    arrivals: list[tuple[Item, float]], max_rows: int
) -> None:
    admitted, due, _ = admissions(arrivals, max_rows)
    for admission in admitted:
        assert all(due[admission.item] <= due[item] + DELAY for item in admission.waiting)


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 9))
def test_equals_are_admitted_in_the_order_in_which_they_came(arrivals: list[tuple[Item, float]], max_rows: int) -> None:
    order = [admission.item for admission in admissions(arrivals, max_rows)[0]]
    for kind in {(item.shape, item.rows, item.priority) for item in order}:
        came = [item for item, _ in arrivals if (item.shape, item.rows, item.priority) == kind]
        assert [item for item in order if (item.shape, item.rows, item.priority) == kind] == came


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 9))
def test_each_checkpoint_is_opened_once_a_delay_at_most(arrivals: list[tuple[Item, float]], max_rows: int) -> None:
    steps, due = Queue(max_rows), []
    for item, seconds in arrivals:
        steps.add(item, at=steps.clock.now + seconds)
        due.append(steps.clock.now + item.priority * AGEING)
    opened = Counter(a for a, b in pairs([shared[0].shape.model for shared in steps.drain()]) if a != b)
    assert all(times <= 1 + (max(due) - min(due)) / DELAY for times in opened.values())


def pairs(models: list[str]) -> Iterator[tuple[str, str | None]]:
    return zip(models, [*models[1:], None][: len(models)], strict=True)


CHUNK = 16
STEP_SECONDS = 0.04


def night(rng: random.Random, chunks: int, shapes: dict[Shape, int]) -> list[list[Item]]:
    """Chunks of a mixed queue: five step counts, one in four unguided, shapes by weight."""
    weights = list(shapes.values())
    return [
        [
            Item(rng.choices(list(shapes), weights)[0], rng.choice([1, 2, 2, 2]), left=rng.choice([20, 25, 30, 40, 50]))
            for _ in range(CHUNK)
        ]
        for _ in range(chunks)
    ]


@dataclass
class Night:
    """A queue of chunks rendered as a worker does: it takes the next when the batcher is hungry, one at a time."""

    chunks: list[list[Item]]
    max_rows: int
    at_once: int
    """Most chunks in work."""
    most: int = 0
    """Chunks that were in work."""

    def rows_used(self) -> float:
        """The share of all calls' rows that held a sample, until the last chunk was taken."""
        steps, used, calls = Queue(self.max_rows), 0, 0
        left, coming, working = list(self.chunks), list[Item](), list[list[Item]]()
        while left:
            # What was taken before the last call has come while it ran.
            steps.add(*coming, at=calls * STEP_SECONDS)
            working, coming = [*working, *filter(None, [coming])], []
            if steps.batcher.is_hungry() and len(working) < self.at_once:
                coming = left.pop(0)
            used += sum(item.rows for item in steps.step())
            calls += 1
            working = [chunk for chunk in working if any(item.left for item in chunk)]
            self.most = max(self.most, len(working))
        return used / (calls * self.max_rows)


def test_rows_are_used_until_the_tail() -> None:
    assert Night(night(random.Random(0), 60, {SMALL: 1}), max_rows=16, at_once=16).rows_used() >= 0.98


@pytest.mark.parametrize("max_rows", [16, 32, 64])
def test_no_more_chunks_are_taken_than_fill_the_rows(max_rows: int) -> None:
    one = Night(night(random.Random(0), 60, {SMALL: 1}), max_rows=max_rows, at_once=16)
    assert one.rows_used() >= 0.95
    assert one.most <= 2 + max_rows / 8


def test_rows_are_used_although_most_sizes_are_rare() -> None:
    sizes = {SMALL: 80, LARGE: 8, Shape("a", 64, 96): 8, Shape("a", 80, 80): 4}
    assert Night(night(random.Random(0), 60, sizes), max_rows=16, at_once=16).rows_used() >= 0.95


def test_rows_are_used_although_checkpoints_take_turns_in_the_queue() -> None:
    assert Night(night(random.Random(0), 60, {SMALL: 1, OTHER: 1}), max_rows=16, at_once=16).rows_used() >= 0.95
