"""The memory of the device: how much of it is ours, what a call took of it, and how it is given back."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

log = logging.getLogger(__name__)

#: Words by which libraries say that memory ran out where they raise no torch.OutOfMemoryError: the driver, MPS and the
#: CPU's allocator, cuBLAS and cuDNN when they find no room for a workspace.
SIGNS = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")


class DeviceMemory:
    """The memory of one device, in bytes. It is measured on CUDA only; elsewhere `limit` and `share` are None."""

    def __init__(self, device: torch.device, cap: int | None = None) -> None:
        """cap: what this process has been limited to, see `cap_memory`."""
        self.device = device
        self._measured = device.type == "cuda"
        total = torch.cuda.get_device_properties(device).total_memory if self._measured else None
        self.limit: int | None = total and min(total, cap or total)
        self.capped = total is not None and self.limit != total

    def share(self) -> int | None:
        """What this process can have right now: the limit, or less while others use the card."""
        if self.limit is None:
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(min(self.limit, free + torch.cuda.memory_reserved(self.device)))

    def used(self) -> int:
        """What tensors take now."""
        return torch.cuda.memory_allocated(self.device) if self._measured else 0

    def synchronize(self) -> None:
        """Wait for the device: without it a time measured is that of the launch."""
        if self._measured:
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        """Measure the peak from here on."""
        if self._measured:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """The most that tensors took at once since `forget_peak`."""
        return torch.cuda.max_memory_allocated(self.device) if self._measured else 0


def cap_memory(device: torch.device, cap: int | None) -> None:
    """Limit what this process may take of a card; what does not fit raises torch.OutOfMemoryError from then on.

    The limit is that of torch's allocator: the driver's own few hundred megabytes come on top.
    """
    if cap is None:
        return
    if device.type != "cuda":
        log.warning("vram is ignored on %s: only the memory of an NVIDIA card can be limited.", device)
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap / total), device)


def release_memory(error: BaseException | None = None) -> None:
    """Give back what nothing uses any more; the tensors of a call that failed hang on its tracebacks."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def naming_out_of_memory() -> Iterator[None]:
    """Raise torch.OutOfMemoryError whatever the library that ran out of memory calls it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if any(sign in str(error) for sign in SIGNS):
            raise torch.OutOfMemoryError(str(error)) from error
        raise


def gib(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 2**30:.1f} GiB"
