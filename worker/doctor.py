"""``python -m worker.doctor``: whether the GPU stack works, one JSON line a check.

A process of its own, so that neither the command line nor a crash of the driver needs torch in the producer.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

from configs.settings import Settings, get_settings

INSTALL_TORCH = "reinstall Promptmill, or torch for your card from https://pytorch.org/get-started/locally"
INSTALL_DRIVER = "install the NVIDIA driver, and a torch built for it: https://pytorch.org/get-started/locally"
SIDE = 512


class Finding(NamedTuple):
    """One thing looked at; ``remedy`` says what to do where it is not ``ok``."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Look at torch, the libraries, the driver, the device, and let the device multiply."""
    try:
        import torch
    except Exception as error:
        yield Finding("torch", False, f"cannot be imported: {error}", INSTALL_TORCH)
        return
    yield Finding("torch", True, torch.__version__)
    yield _driver(torch.version.cuda)
    yield _device()
    yield from _exactness()
    yield from _safety()


def _driver(built_for: str | None) -> Finding:
    """The NVIDIA driver and cards, which a machine may well be without."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("driver", True, "no NVIDIA driver here")
    query = [program, "--query-gpu=driver_version,name,memory.total,memory.free", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    said = "; ".join((asked.stdout or asked.stderr).strip().splitlines())
    if asked.returncode:
        return Finding("driver", False, said, INSTALL_DRIVER)
    return Finding("driver", built_for is not None, said, f"this torch is not built for CUDA: {INSTALL_DRIVER}")


def _device() -> Finding:
    """The device that a worker would take, with a product whose value is known."""
    try:
        from worker.checkpoints import pick_device

        device = pick_device(get_settings().device)
        return Finding("device", *_multiply(device))
    except Exception as error:
        remedy = "set PROMPTMILL_DEVICE to auto or cpu, or make the card work: `nvidia-smi` shows it"
        return Finding("device", False, str(error), remedy)


def _exactness() -> Iterator[Finding]:
    """Whether the images of the default checkpoint come out the same in any company, where exact mode is on."""
    try:
        settings = get_settings()
        if settings.exact:
            yield _self_test(settings)
    except Exception as error:
        yield Finding("exact", False, str(error), "unset PROMPTMILL_EXACT, or correct what this says")


def _self_test(settings: Settings) -> Finding:
    from worker.checkpoints import Checkpoint, open_checkpoint
    from worker.exact import ExactLayout, make_deterministic
    from worker.progress import Progress
    from worker.renderers import make_fast, make_predictor, make_rooms

    make_deterministic()
    checkpoint = open_checkpoint(settings.job["model"], device=settings.device, dtype=settings.dtype)
    if not isinstance(checkpoint, Checkpoint):
        return Finding("exact", True, f"{checkpoint.name} has a pipeline of its own: each image has calls of its own")
    checkpoint = make_fast(checkpoint, settings)
    rooms, size = make_rooms(checkpoint, settings), checkpoint.native_size
    predictor = make_predictor(checkpoint, rooms, settings, Progress())
    if fault := ExactLayout(checkpoint, rooms, predictor).fault(*size):
        return Finding("exact", False, f"{fault}: each image has calls of its own", "unset PROMPTMILL_EXACT")
    rows = rooms.of(*size).rows
    return Finding("exact", True, f"canaries of {size[0]}x{size[1]} come out the same in any company of {rows} rows")


def _safety() -> Iterator[Finding]:
    """Whether the safety checker can be opened, where it is on."""
    try:
        from worker.safety import open_checker

        settings = get_settings()
        if checker := open_checker(settings):
            yield Finding("safety", True, f"{checker.name} works; unsafe pictures: {settings.safety}")
    except Exception as error:
        yield Finding("safety", False, str(error), "name another checker, or set PROMPTMILL_SAFETY to off")


def _multiply(device: Any) -> tuple[bool, str, str]:
    import torch

    dtype = torch.float32 if device.type == "cpu" else torch.float16
    ones = torch.ones(SIDE, SIDE, device=device, dtype=dtype)
    right = bool((ones @ ones == SIDE).all())
    told = f"{_described(device)}, a {SIDE} x {SIDE} matrix product {'is right' if right else 'comes out wrong'}"
    return right, told, "the device computes wrongly: update its driver, or have the card looked at"


def _described(device: Any) -> str:
    import torch

    if device.type != "cuda":
        return f"{device} ({torch.get_num_threads()} threads)"
    free, total = torch.cuda.mem_get_info(device)
    return f"{device} {torch.cuda.get_device_name(device)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def main() -> None:
    for finding in examine():
        print(json.dumps(finding._asdict()), flush=True)


if __name__ == "__main__":
    main()
