"""The noise of a CUDA device against numbers that real ones have printed."""

import numpy as np
import pytest

from worker import philox

IMAGE = 4 * 64 * 64
ALL = slice(None)


def test_it_starts_as_a_cuda_generator_does() -> None:
    found = philox.normal(42, IMAGE, slice(0, 4))
    np.testing.assert_allclose(found, [0.1940, 2.1614, -0.1721, 0.8491], atol=5e-5)


def test_seed_zero_gives_the_numbers_of_a_cuda_device() -> None:
    expected = [-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564, -0.62285122, -0.32838709]
    np.testing.assert_allclose(philox.normal(0, 12, slice(0, 8)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("threads", "ending"),
    [
        (None, [0.6724, 1.2141, 0.9733]),
        (68 * 1024, [1.1495, 0.9265, 1.1323]),
        (28 * 1536, [1.3374, 1.4960, 0.9115]),
    ],
)
def test_the_vector_addition_of_tritons_tutorial_ends_as_on_three_cards(
    threads: int | None, ending: list[float]
) -> None:
    calls = philox.calls_of(98432, threads)
    one = philox.uniform(0, 98432, ALL, threads=threads)
    other = philox.uniform(0, 98432, ALL, calls=calls, threads=threads)
    np.testing.assert_allclose((one + other)[:2], [1.3713, 1.3076], atol=5e-5)
    np.testing.assert_allclose((one + other)[-3:], ending, atol=5e-5)


@pytest.mark.parametrize("threads", [None, 43008, 1024])
def test_a_part_of_a_draw_is_that_part_of_the_whole(threads: int | None) -> None:
    whole = philox.normal(7, 3 * IMAGE, ALL, calls=5, threads=threads)
    part = philox.normal(7, 3 * IMAGE, slice(IMAGE, 2 * IMAGE), calls=5, threads=threads)
    np.testing.assert_array_equal(part, whole[IMAGE : 2 * IMAGE])


def test_the_first_image_is_the_same_in_any_company() -> None:
    alone, first = (philox.normal(7, count * IMAGE, slice(0, IMAGE)) for count in (1, 3))
    np.testing.assert_array_equal(alone, first)


def test_a_small_card_draws_other_noise_at_the_end_of_a_large_batch() -> None:
    large, small = (philox.normal(7, 3 * IMAGE, ALL, threads=threads) for threads in (None, 30 * 1536))
    assert (large != small).sum() == 3072


def test_a_draw_of_more_than_four_numbers_a_thread_takes_further_calls() -> None:
    assert [philox.calls_of(count, 1024) for count in (4096, 4097, 16384)] == [1, 2, 4]
    numbers = philox.normal(7, 16384, ALL, threads=1024)
    np.testing.assert_array_equal(numbers[4096:8192], philox.normal(7, 4096, ALL, calls=1, threads=1024))


def test_a_long_seed_is_taken_whole() -> None:
    short, long = (philox.normal(seed, 8, ALL) for seed in (1, 2**32 + 1))
    assert (short != long).all()


def test_noise_is_normal() -> None:
    noise = philox.normal(3, 2**18, ALL, threads=4096)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
