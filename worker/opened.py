"""What every opened checkpoint has, whatever renders it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OpenedCheckpoint:
    """A checkpoint in memory."""

    name: str
    hash: str
    """sha256 over the weight files."""
    device: torch.device
    dtype: torch.dtype

    @property
    def short_hash(self) -> str:
        """The first ten digits: what A1111 calls the model hash."""
        return self.hash[:10]

    @property
    def device_name(self) -> str:
        """`cpu`, or the card's own name."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)

    @property
    def dtype_name(self) -> str:
        """`float16`, `float32` and the like."""
        return str(self.dtype).removeprefix("torch.")
