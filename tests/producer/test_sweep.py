"""Sweeps: exact values, checked like cells, and every combination of them."""

import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import InvalidParameter
from producer.sweep import Sweeps, read_sweep


def values(text: str) -> list[object]:
    return [value for swept in read_sweep(text).values for value in swept.values()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=20,30, 50", [20, 30, 50]),
        ("scale=5:9:1", [5.0, 6.0, 7.0, 8.0, 9.0]),
        ("scale=5:7", [5.0, 6.0, 7.0]),
        ("eta=0.1:0.5:0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("steps=50:10:-20", [50, 30, 10]),
        ("steps=1,10:30:10", [1, 10, 20, 30]),
        ("cfg scale=.5:1.6:.25", None),
        ("Sampler_Name=k_euler_a,DPM++ 2M Karras", ["Euler a", "DPM++ 2M Karras"]),
        ('negative_prompt="ugly, bad",', ["ugly, bad", ""]),
        ("size=64x128,128x64", [64, 128, 128, 64]),
        ("seed=0:2", [0, 1, 2]),
    ],
)
def test_values_are_read_as_cells_are(text: str, expected: list[object] | None) -> None:
    if expected is None:
        with pytest.raises(InvalidParameter):
            read_sweep(text)
    else:
        assert values(text) == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(1, 30), st.integers(0, 20))
def test_a_range_of_decimals_is_exact_and_has_its_end(start: int, step: int, steps: int) -> None:
    tenths = [Decimal(start + number * step) / 10 for number in range(steps + 1)]
    wanted = [float(tenth) for tenth in tenths if tenth <= 1]
    if wanted:
        assert values(f"eta={tenths[0]}:{wanted[-1]}:{Decimal(step) / 10}") == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "'steps' is not NAME=VALUES, such as steps=20,30,50 or scale=5:9:1"),
        ("steps=", "steps gets no values; give some, such as steps=1,2"),
        ("stpes=1", "'stpes' cannot be swept; did you mean steps?"),
        (
            "prompt=a,b",
            "prompt cannot be swept; write a template, such as {red|blue}, and add --template combinatorial",
        ),
        ("n=1,2", "n cannot be swept; --num-images gives every row as many"),
        ("steps=20,1001", "steps: '1001' is not a whole number from 1 to 1000"),
        ("steps=1:2:0.5", "steps: '1.5' is not a whole number from 1 to 1000"),
        ("sampler=eulr", "sampler: 'eulr' is not a known sampler; did you mean Euler or Euler a?"),
        ("scale=9:5:1", "9:5:1 does not lead from 9 to 5; give another step"),
        ("scale=5:9:0", "5:9:0 does not lead from 5 to 9; give another step"),
        (
            "seed=0:9223372036854775807",
            "0:9223372036854775807 has 9223372036854775808 values; at most 10000 are allowed",
        ),
        ("eta=0:9999999999999999999:.000000000001", "values; at most 10000 are allowed"),
        ("steps=20,20.0", "steps gets 2 values, and some twice; give each once"),
        ('sampler="Euler', "has a quote that is not closed"),
    ],
)
def test_what_cannot_be_swept_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(message)):
        read_sweep(text)


def test_several_make_every_combination_the_last_changing_fastest() -> None:
    sweeps = Sweeps([read_sweep("steps=1,2"), read_sweep("scale=3,4")])
    found = [tuple(swept.values()) for swept in sweeps.combinations()]
    assert found == [(1, 3.0), (1, 4.0), (2, 3.0), (2, 4.0)]
    assert (sweeps.count, sweeps.names, list(Sweeps().combinations())) == (4, ("steps", "scale"), [{}])


def test_one_parameter_is_swept_once() -> None:
    with pytest.raises(InvalidParameter, match="size sweeps width a second time, after w"):
        Sweeps([read_sweep("w=64,128"), read_sweep("size=64x64")])
