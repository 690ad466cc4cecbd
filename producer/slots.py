"""The slots of a fleet: what each worker process is told of the machine, so that it sees one device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from configs.settings import PREFIX
from producer.errors import NoSuchGpu
from producer.gpus import VISIBLE, Gpu, choose_gpus, visible_gpus

#: Devices of which a machine has but one.
SINGLE = ("cpu", "mps")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one worker at a time."""

    #: Part of the worker's name: ``gpu0``.
    name: str
    #: For the eye; None where the worker finds its device itself.
    device: str | None = None
    #: What it finds in its environment, beside ours.
    environ: dict[str, str] = field(default_factory=dict)


def plan_slots(
    device: str, environ: Mapping[str, str], gpus: Sequence[str] = (), workers: int | None = None
) -> list[Slot]:
    """A slot for each GPU, or as many as wished on the CPU.

    device: the setting of that name. gpus: which ones, by index or UUID. workers: how many, without GPUs.

    Raises:
        NoSuchGpu: one is named that is not there, or a number of workers is given where each GPU has one.
    """
    cards = [] if device in SINGLE else visible_gpus(environ)
    if gpus:
        cards = choose_gpus(cards, gpus)
    elif device.startswith("cuda:"):
        # As torch counts: by place among those that can be seen.
        cards = cards[int(device.removeprefix("cuda:")) :][:1]
    if not cards:
        return _processor_slots(device, environ, workers or 1)
    if workers:
        raise NoSuchGpu("Each GPU has one worker: choose with --gpus, or set PROMPTMILL_DEVICE=cpu for --workers.")
    return [_gpu_slot(gpu, device) for gpu in cards]


def _gpu_slot(gpu: Gpu, device: str) -> Slot:
    environ = {VISIBLE: gpu.key}
    if device.startswith("cuda:"):
        environ[f"{PREFIX}DEVICE"] = "cuda"
    return Slot(f"gpu{gpu.number}", f"gpu {gpu.label}", environ)


def _processor_slots(device: str, environ: Mapping[str, str], count: int) -> list[Slot]:
    """Several share the processor's cores, unless somebody has said how many threads each takes."""
    threads = max(1, (psutil.cpu_count() or 1) // count)
    share = {} if count == 1 or "OMP_NUM_THREADS" in environ else {"OMP_NUM_THREADS": str(threads)}
    kind = device if device in SINGLE else "local"
    shown = kind if device in SINGLE else None
    return [Slot(f"{kind}{number}", shown, share) for number in range(count)]
