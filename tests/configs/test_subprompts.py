"""Weighted sub-prompts, against what the fork was seen to do."""

import pytest

from configs.errors import InvalidParameter
from configs.subprompts import split_prompt


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("tabby cat:0.25 white duck:0.75 hybrid", [("tabby cat", 0.125), ("white duck", 0.375), ("hybrid", 0.5)]),
        ("Title: a castle", [("Title", 0.5), ("a castle", 0.5)]),
        ("photo 16:9 of a dog", [("photo 16", 0.9), ("of a dog", 0.1)]),
        ("a cat:abc dog", [("a cat", 0.5), ("dog", 0.5)]),
        ("a cat:3 a dog:1", [("a cat", 0.75), ("a dog", 0.25)]),
        ("cat:0.5", [("cat:0.5", 1.0)]),
        ("a plain prompt", [("a plain prompt", 1.0)]),
        ("a:2 b:-1", [("a", 2.0), ("b", -1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_a_prompt_is_split_as_by_the_fork(prompt: str, expected: list[tuple[str, float]]) -> None:
    texts, shares = zip(*split_prompt(prompt), strict=True)
    assert list(zip(texts, map(pytest.approx, shares), strict=True)) == expected


@pytest.mark.parametrize("prompt", ["a:1 b:-1", "a:0 b:0", "a:inf b", "a:nan b"])
def test_weights_without_a_sum_are_refused(prompt: str) -> None:
    with pytest.raises(InvalidParameter, match="which sum to"):
        split_prompt(prompt)
