"""What every opened checkpoint has, whatever renders it."""

from contextlib import AbstractContextManager, nullcontext
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
    """Of the weights."""
    autocast: bool = False
    """Whether products are computed in half precision, as in the original scripts, although the weights are not."""

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
        """`float16`, `float32` and the like, or `autocast`."""
        return "autocast" if self.autocast else str(self.dtype).removeprefix("torch.")

    @property
    def arithmetic(self) -> dict[str, str | bool]:
        """What of a processor can change last bits. Empty for a card, whose name says it all."""
        if self.device.type != "cpu":
            return {}
        return {"threads": str(torch.get_num_threads()), "instructions": torch.backends.cpu.get_cpu_capability()}

    @property
    def is_full(self) -> bool:
        """Whether everything is computed in float32."""
        return self.dtype == torch.float32 and not self.autocast

    def computing(self) -> AbstractContextManager[object]:
        """What models are called in. Autocast is torch's own choice for a device: float16, or bfloat16 on a CPU."""
        return torch.autocast(self.device.type) if self.autocast else nullcontext()
