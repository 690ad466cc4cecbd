"""What was seen does not pass, and what is new nearly always does."""

from producer.sieve import Sieve


def test_nothing_that_was_seen_passes() -> None:
    sieve, seen = Sieve(), [hash((number, "seen")) for number in range(2000)]
    for thing in seen:
        sieve.passes(thing)
    assert not any(map(sieve.passes, seen))


def test_hardly_anything_that_is_new_seems_seen() -> None:
    sieve = Sieve()
    assert sum(not sieve.passes(hash((number, None))) for number in range(200_000)) <= 2
