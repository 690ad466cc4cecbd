"""What can go wrong in a worker, named by what happens next.

WorkerError
├── CheckpointRefused       the worker does not start with it; nothing has touched the device
│   ├── CheckpointMissing
│   ├── CheckpointBroken
│   ├── CheckpointTooLarge
│   └── CheckpointUnsupported
├── DeviceRefused           the worker does not start
├── JobRefused              the job fails at once: no retry can help
│   ├── InitImageRefused
│   ├── PromptRefused
│   ├── SamplerRefused
│   ├── SizeRefused
│   ├── PathRefused
│   ├── OutOfMemory
│   └── NonFiniteImage
├── JobRetried              the job is tried again, and the attempt counts
│   └── DeviceLost          and the process ends
├── JobReturned             the job goes back to the queue, and no attempt counts
│   ├── EngineClosed
│   ├── SampleDropped
│   ├── ResultLate
│   └── DiskFull
├── NotLinear               the sampler's samples run as scheduler objects
└── NotConverted            the checkpoint stays as it is
"""

from collections.abc import Iterator
from contextlib import contextmanager


class WorkerError(Exception):
    """Root of everything a worker raises on purpose; the message is one sentence for the user."""

    #: Of the process, where it cannot start: another start would end the same.
    exit_code = 2


class CheckpointRefused(WorkerError):
    """The checkpoint cannot be used."""


class CheckpointMissing(CheckpointRefused):
    """No such checkpoint, here or on the hub."""


class CheckpointBroken(CheckpointRefused):
    """The checkpoint's files are damaged or incomplete."""


class CheckpointTooLarge(CheckpointRefused):
    """The checkpoint does not fit in the device's memory in any way."""


class CheckpointUnsupported(CheckpointRefused):
    """The checkpoint is of a kind that is not rendered here."""


class DeviceRefused(WorkerError):
    """The device or number format asked for is not on this machine."""


class JobRefused(WorkerError):
    """The job can never succeed as it stands."""


class InitImageRefused(JobRefused):
    """The init image or its mask cannot be read or may not be, or they leave nothing to do."""


class PromptRefused(JobRefused):
    """The checkpoint does not heed a negative prompt or weights, or the weights are none."""


class SamplerRefused(JobRefused):
    """The sampler cannot run this checkpoint with this number of steps."""


class SizeRefused(JobRefused):
    """The checkpoint cannot make an image of this width and height."""


class PathRefused(JobRefused):
    """The image would be saved outside its folder."""


class OutOfMemory(JobRefused):
    """The image does not fit in the device's memory, alone and by every way to need less."""


class NonFiniteImage(JobRefused):
    """The decoded image holds NaN or infinity, in float32 too."""


class JobRetried(WorkerError):
    """The job failed in a way that may pass."""


class DeviceLost(JobRetried):
    """No call to the device succeeds any more in this process; one of the jobs on it may be why."""


class JobReturned(WorkerError):
    """The job was not at fault."""


class EngineClosed(JobReturned):
    """The engine stopped before the image was done."""


class SampleDropped(JobReturned):
    """The image is no longer wanted: its batch was cancelled, or another worker has the job."""


class ResultLate(JobReturned):
    """The image was finished after its job had been given to another worker."""


class DiskFull(JobReturned):
    """The job waits for disk space."""


class NotLinear(WorkerError):
    """The sampler's steps cannot be compiled into a table."""


class NotConverted(WorkerError):
    """The checkpoint cannot be written in another form."""


@contextmanager
def refusing(refusal: type[CheckpointRefused], problem: str) -> Iterator[None]:
    """Turn whatever a library raises while loading into one sentence, with the original as its cause."""
    try:
        yield
    except WorkerError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise refusal(f"{problem}: {reason}.") from error
