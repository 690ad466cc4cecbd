"""A device that was lost: errors after which every further call to it fails, so that only a new process helps."""

import torch

from worker.errors import DeviceLost

#: torch.AcceleratorError of torch 2.8 and later; before, a plain RuntimeError that begins so.
SIGN = "CUDA error:"
#: What begins so too, and passes: memory that ran out, and what of a call could not be captured as a graph.
PASSING = ("out of memory", "STATUS_ALLOC_FAILED", "captur")


def find_device_loss(error: BaseException) -> DeviceLost | None:
    """What to raise in place of an error with which the device is lost; None for every other.

    A failed assertion in a kernel is one, a wrong address, and a card that fell off the bus. Most of the driver's
    errors stay for as long as the process lives (cudaError_t in the CUDA Runtime API); for the few others a new process
    does no harm.
    """
    if isinstance(error, DeviceLost):
        return error
    accelerator_error = getattr(torch, "AcceleratorError", ())
    if not isinstance(error, accelerator_error) and not (isinstance(error, RuntimeError) and SIGN in str(error)):
        return None
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    if any(sign in reason for sign in PASSING):
        return None
    return DeviceLost(f"The device is lost to this process, which ends so that another can start: {reason}.")
