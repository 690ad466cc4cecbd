"""A full UNet call with each speed setting alone and with all, against the UNet as it is.

The calls take turns, and the fastest of each counts. On a CPU it is the process's own time, which other programs
lengthen little; on a GPU the time until the device is done.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

NAMES = ("channels_last", "fused_projections", "compile")
VARIANTS = {"as it is": (), **{f"{name} alone": (name,) for name in NAMES}, "all": NAMES}


def make_call(names: tuple[str, ...], model: str, rows: int) -> tuple[Callable[[], object], str]:
    """A full call with those settings on, and the name of the device."""
    import torch

    from worker.checkpoints import open_checkpoint
    from worker.conditions import join
    from worker.denoise import Rows
    from worker.progress import Progress
    from worker.renderer import Renderer
    from worker.renderers import make_fast, make_predictor, make_rooms
    from worker.workload import uniform

    settings = open_settings(names, rows)
    checkpoint: Any = open_checkpoint(model, device=settings.device, dtype=settings.dtype)
    width, height = checkpoint.native_size
    (sample,) = uniform(1, model, width, height)
    flight = Renderer(checkpoint, sampling="objects").start(sample)
    inputs = Rows(torch.cat([flight.latents] * rows), torch.full((rows,), 500.0), join([flight.positive] * rows))
    checkpoint = make_fast(checkpoint, settings)
    rooms = make_rooms(checkpoint, settings)
    rooms.of(width, height).tuner.freeze()
    rooms.of(width, height).tuner.rows = rows
    predictor = make_predictor(checkpoint, rooms, settings, Progress())
    return lambda: predictor.predict(inputs, width, height), checkpoint.device_name


def open_settings(names: tuple[str, ...], rows: int) -> Any:
    """The settings of this machine, but for those that are measured, and with nothing known from before."""
    import os

    from configs.settings import read_settings

    changes = {f"PROMPTMILL_{name.upper()}": "on" if name in names else "off" for name in NAMES}
    home = tempfile.mkdtemp(prefix="promptmill-bench-")
    return read_settings(
        {**os.environ, **changes, "PROMPTMILL_HOME": home, "PROMPTMILL_MAX_ROWS": str(rows)}, Path(home)
    )


def measure(calls: dict[str, Callable[[], object]], device: str, repeats: int) -> dict[str, float]:
    """Seconds of each call, the best of some."""
    import torch

    clock = time.process_time if device == "cpu" else time.perf_counter
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            started = clock()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            best[name] = min(best[name], clock() - started)
    return best


@click.command(help=__doc__)
@click.option("--model", default="demo", show_default=True, help="The checkpoint.")
@click.option("--rows", default=8, show_default=True, type=click.IntRange(1), help="Rows of the call.")
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(1))
def main(model: str, rows: int, repeats: int) -> None:
    import torch

    torch.set_num_threads(1)
    with torch.no_grad():
        made = {name: make_call(names, model, rows) for name, names in VARIANTS.items()}
        device = made["as it is"][1]
        seconds = measure({name: call for name, (call, _) in made.items()}, device, repeats)
    print(f"{model}, {rows} rows, {device}")
    for name, best in seconds.items():
        print(f"{name:<26}{1000 * best:>10.2f} ms{seconds['as it is'] / best:>8.2f}")
    print(f"ratio: {seconds['as it is'] / seconds['all']:.2f}")


if __name__ == "__main__":
    main()
