"""How much of the device the weights of a checkpoint take, and the ways to take less."""

import logging
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import torch
from accelerate import cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading

from worker.memory import naming_out_of_memory, release_memory

log = logging.getLogger(__name__)


class Placement(IntEnum):
    """Where the weights are, from the fastest to the smallest."""

    RESIDENT = 0
    """All on the device."""
    VISITING = 1
    """Text encoder and VAE come to the device when they have work, and leave it again."""
    STREAMED = 2
    """The UNet's weights too: each layer's come for as long as it computes."""


SENTENCES = {
    Placement.VISITING: "text encoder and VAE now wait in main memory while they have no work",
    Placement.STREAMED: "the UNet's weights now stream through the device layer by layer, which is slow",
}


class Footprint:
    """The weights of one checkpoint on their device. Only ever becomes smaller. Not thread-safe."""

    def __init__(self, unet: Any, visitors: Sequence[Any], device: torch.device) -> None:
        """visitors: text encoders and VAE, which work for moments only."""
        self.device = device
        self.placement = Placement.RESIDENT
        self._unet, self._visitors = unet, visitors
        self._hooks: list[Any] = []

    def load(self, placement: Placement = Placement.RESIDENT) -> None:
        """Bring the weights to the device, in a smaller placement where they do not fit.

        Raises torch.OutOfMemoryError when they fit in none.
        """
        try:
            with naming_out_of_memory():
                self._place(placement)
        except torch.OutOfMemoryError as error:
            release_memory(error)
            if placement is Placement.STREAMED:
                raise
            self.load(_say(Placement(placement + 1)))

    def lower(self) -> bool:
        """Take less of the device; False when there is no smaller placement."""
        if self.placement is Placement.STREAMED:
            return False
        self.reach(_say(Placement(self.placement + 1)))
        return True

    def reach(self, placement: Placement) -> None:
        """Take no more of the device than this placement does."""
        if placement > self.placement:
            self._place(placement)
            self.park()

    def park(self) -> None:
        """Send visitors back to main memory."""
        for hook in self._hooks:
            hook.offload()

    def _place(self, placement: Placement) -> None:
        if placement >= Placement.VISITING and not self._hooks:
            self._hooks = [cpu_offload_with_hook(visitor, self.device)[1] for visitor in self._visitors]
        if placement is Placement.STREAMED:
            self._stream()
        else:
            for model in [self._unet, *([] if self._hooks else self._visitors)]:
                model.to(self.device)
        self.placement = placement

    def _stream(self) -> None:
        self._unet.to("cpu")
        # By leaf: of all the ways this one takes the least. With a stream, the next layer's weights come while this
        # one computes, and nothing is copied back.
        apply_group_offloading(
            self._unet, self.device, offload_type="leaf_level", use_stream=self.device.type == "cuda"
        )


def _say(placement: Placement) -> Placement:
    log.warning("Out of memory: %s.", SENTENCES[placement])
    return placement
