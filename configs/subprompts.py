"""Weighted sub-prompts, ``text:number text:number rest``, as the fork optimizedSD reads them. Imports no torch.

Each text up to a colon has the number from there to the next blank as its weight; 1 where there is none, or where the
word is no number, which is lost then. What is left without a colon has weight 1. The prompt's embedding is the average
of theirs.
"""

import math
from typing import NamedTuple

from configs.errors import InvalidParameter


class SubPrompt(NamedTuple):
    """A part of a prompt, and its share in the average."""

    text: str
    share: float


def split_prompt(prompt: str) -> list[SubPrompt]:
    """The sub-prompts of a prompt, with shares that sum to 1; one alone is the prompt as it is written.

    Raises:
        InvalidParameter: the weights cannot be shares.
    """
    parts = _parts(prompt)
    if len(parts) < 2:
        return [SubPrompt(prompt, 1.0)]
    total = sum(part.share for part in parts)
    if not (total and math.isfinite(total)):
        weights = ", ".join(f"{part.share:g}" for part in parts)
        raise InvalidParameter(f"has the weights {weights}, which sum to {total:g}; any other finite sum is allowed")
    return [SubPrompt(part.text, part.share / total) for part in parts]


def _parts(prompt: str) -> list[SubPrompt]:
    """The texts with their weights, not yet shares."""
    parts, rest = [], prompt
    while rest:
        text, colon, rest = rest.partition(":")
        word, _, rest = rest.partition(" ") if colon else ("", "", "")
        parts.append(SubPrompt(text, _weight(word)))
    return parts


def _weight(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return 1.0
