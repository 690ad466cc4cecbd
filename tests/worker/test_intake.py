from collections.abc import Iterator
from contextlib import closing
from select import select

import pytest

from worker.intake import Intake


class Appetite:
    """A stand-in for the engine's hunger."""

    hungry = True


@pytest.fixture
def appetite() -> Appetite:
    return Appetite()


@pytest.fixture
def intake(appetite: Appetite) -> Iterator[Intake]:
    made = Intake(lambda: appetite.hungry)
    with closing(made.listener), closing(made._caller):
        yield made


def has_been_called(intake: Intake) -> bool:
    return bool(select([intake.listener], [], [], 0)[0])


def test_chunks_are_taken_while_the_engine_is_hungry(intake: Intake, appetite: Appetite) -> None:
    assert intake.is_open
    appetite.hungry = False
    assert not intake.is_open


def test_one_chunk_is_on_its_way_at_a_time(intake: Intake) -> None:
    intake.expect(sender=None, request=None)
    assert not intake.is_open
    intake.arrive()
    assert intake.is_open


def test_the_loop_is_woken_when_a_chunk_has_arrived(intake: Intake) -> None:
    intake.expect()
    assert not has_been_called(intake)
    intake.arrive()
    assert has_been_called(intake)
    intake.listen()
    assert not has_been_called(intake)


def test_calls_that_nobody_hears_block_nobody(intake: Intake) -> None:
    for _ in range(100_000):
        intake.wake()
    while has_been_called(intake):
        intake.listen()
