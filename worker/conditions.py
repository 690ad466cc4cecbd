"""Conditions: what a row of a UNet call is told beside its latents and its timestep.

Letters in shapes: R rows, T tokens of D numbers, P numbers of a pooled embedding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Conditions(NamedTuple):
    """The conditions of R rows. The last two are SDXL's alone (Podell et al. 2023, section 2.2), else None."""

    text: Tensor
    """(R, T, D)"""
    pooled: Tensor | None = None
    """(R, P): the prompts as a whole."""
    time_ids: Tensor | None = None
    """(R, 6): height and width of the original, top and left of its crop, height and width of the target."""

    def of_size(self, width: int, height: int) -> "Conditions":
        """The same for images of that size in pixels, not cropped; where there is nothing pooled, as they are."""
        if self.pooled is None:
            return self
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=self.text.dtype, device=self.text.device)
        return self._replace(time_ids=sizes.expand(len(self.text), -1))

    def arguments(self) -> dict[str, Any]:
        """The UNet's own names for them."""
        if self.pooled is None:
            return {"encoder_hidden_states": self.text}
        added = {"text_embeds": self.pooled, "time_ids": self.time_ids}
        return {"encoder_hidden_states": self.text, "added_cond_kwargs": added}


def join(conditions: Sequence[Conditions]) -> Conditions:
    """Conditions of one checkpoint, rows below rows."""
    texts, pooled, time_ids = zip(*conditions, strict=True)
    return Conditions(torch.cat(texts), _join(pooled), _join(time_ids))


def average(conditions: Sequence[Conditions], shares: Sequence[float]) -> Conditions:
    """The average of conditions of one row each, weighted by shares that sum to 1."""
    first, *others = conditions
    if not others:
        return first
    texts, pooled, _ = zip(*conditions, strict=True)
    return Conditions(_average(texts, shares), None if first.pooled is None else _average(pooled, shares))


def _average(parts: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    result = torch.zeros_like(parts[0])
    for part, share in zip(parts, shares, strict=True):
        result.add_(part, alpha=share)
    return result


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
