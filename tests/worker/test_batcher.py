from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from worker.batcher import Batcher


@dataclass(eq=False)
class Item:
    size: tuple[int, int] = (64, 64)
    rows: int = 2
    left: int = 1


def make_batcher(items: list[Item], max_rows: int = 4) -> Batcher[Item]:
    batcher: Batcher[Item] = Batcher(max_rows)
    for item in items:
        batcher.add(item)
    return batcher


def test_samples_share_a_call_up_to_its_rows() -> None:
    items = [Item(), Item(rows=1), Item(rows=1), Item()]
    assert make_batcher(items).share() == items[:3]


def test_a_sample_joins_when_another_leaves() -> None:
    items = [Item(), Item(), Item()]
    batcher = make_batcher(items)
    batcher.remove(batcher.share()[0])
    assert batcher.share() == items[1:]


def test_nobody_overtakes_the_oldest_that_waits() -> None:
    items = [Item(), Item(rows=1), Item(), Item(rows=1)]
    assert make_batcher(items).share() == items[:2]


def test_samples_of_another_size_do_not_share_a_call() -> None:
    small, large = Item(), Item(size=(96, 64))
    batcher = make_batcher([small, large])
    assert batcher.share() == [small]
    batcher.remove(small)
    assert batcher.share() == [large]


def test_the_oldest_sample_is_in_every_call() -> None:
    small, large, late = Item(), Item(size=(96, 64)), Item()
    batcher = make_batcher([small, large])
    batcher.share()
    batcher.add(late)
    assert batcher.share() == [small, late]
    batcher.remove(small)
    assert batcher.share() == [large]


def test_a_sample_larger_than_the_limit_runs_alone() -> None:
    items = [Item(), Item()]
    assert make_batcher(items, max_rows=1).share() == items[:1]


def test_with_fewer_rows_the_youngest_pause() -> None:
    items = [Item(), Item(), Item()]
    batcher = make_batcher(items, max_rows=6)
    batcher.share()
    batcher.max_rows = 4
    assert batcher.share() == items[:2]
    assert batcher.running() == items


def test_withdrawing_leaves_what_runs() -> None:
    items = [Item(), Item(), Item(), Item(size=(96, 64))]
    batcher = make_batcher(items)
    batcher.share()
    assert batcher.withdraw() == items[2:]
    assert batcher.share() == items[:2]


def test_an_empty_batcher_shares_nothing() -> None:
    assert not make_batcher([])
    assert make_batcher([]).share() == []


ITEMS = st.builds(
    Item, size=st.sampled_from([(64, 64), (96, 64), (64, 96)]), rows=st.integers(1, 2), left=st.integers(1, 5)
)


@given(st.lists(ITEMS, max_size=30), st.integers(1, 9))
def test_every_sample_gets_its_steps_and_no_call_is_too_large(items: list[Item], max_rows: int) -> None:
    batcher, steps = make_batcher(items, max_rows), {id(item): item.left for item in items}
    while shared := batcher.share():
        assert sum(item.rows for item in shared) <= max(max_rows, shared[0].rows)
        assert len({item.size for item in shared}) == 1
        for item in shared:
            steps[id(item)] -= 1
            if steps[id(item)] == 0:
                batcher.remove(item)
    assert set(steps.values()) <= {0}
