"""Time of the samplers in a step, without the UNet: a scheduler object for each sample, against tables.

Both go the same ways with the same random predictions. The first ratio is of samplers as a queue might mix them, the
second of LMS alone, whose scheduler integrates its coefficients anew in every step of every sample.
"""

import time
import warnings
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import click

MIX = ("DPM++ 2M Karras", "Euler a", "DDIM", "Euler", "PLMS", "DPM++ 2M SDE Karras", "UniPC", "Heun")
NOISE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def seconds_of(sampling: Any, names: Sequence[str], steps: int, shape: tuple[int, ...], device: str) -> float:
    """The time of one step of samples of all these samplers, the compiling of tables not counted."""
    import torch

    from worker import trajectories
    from worker.sample import Sample
    from worker.samplers import Samplers

    samplers = Samplers(NOISE, sampling)
    fields: dict[str, Any] = {"model": "", "prompt": "", "scale": 7.5, "width": 512, "height": 512}
    samples = [Sample(sampler=name, steps=steps, seed=seed, **fields) for seed, name in enumerate(names)]
    ways = [samplers.start(sample, torch.Generator().manual_seed(sample.seed)) for sample in samples]
    latents = [way.start_from_noise(torch.randn(1, *shape)).to(device) for way in ways]
    predictions = torch.randn(len(ways), *shape, device=device)
    # All samplers have so many; Heun has more.
    started = time.perf_counter()
    for _ in range(steps):
        trajectories.scale(ways, latents)
        stepped = trajectories.step(ways, latents, predictions)
        latents = [result for result in stepped if isinstance(result, torch.Tensor)]
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def compare(label: str, rounds: int, *given: Any) -> float:
    """Print the best times of both, which take turns, and give their ratio."""
    taken = [[seconds_of(sampling, *given) for sampling in ("objects", "tables")] for _ in range(rounds)]
    objects, tables = (min(times) for times in zip(*taken, strict=True))
    print(
        f"{label:<8}objects {objects * 1e3:8.2f} ms a step, tables {tables * 1e3:8.2f} ms, {objects / tables:.1f} times"
    )
    return objects / tables


@click.command(help=__doc__)
@click.option("--samples", default=16, show_default=True, type=click.IntRange(1), help="Samples that step together.")
@click.option("--steps", default=25, show_default=True, type=click.IntRange(2), help="Steps of each.")
@click.option("--size", default=512, show_default=True, type=click.IntRange(8), help="Width and height in pixels.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Runs of each.")
@click.option("--device", default="cpu", show_default=True, help="Where the latents are.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Torch threads.")
def main(samples: int, steps: int, size: int, rounds: int, device: str, threads: int) -> None:
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    with torch.no_grad():
        given = steps, (4, size // 8, size // 8), device
        compare("LMS", rounds, ["LMS"] * samples, *given)
        ratio = compare("mixed", rounds, list(islice(cycle(MIX), samples)), *given)
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
