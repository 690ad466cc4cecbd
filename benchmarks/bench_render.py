"""Images a second of `promptmill render`, against a bare diffusers loop over the same jobs.

Same checkpoint, prompts, seeds, steps, scales, samplers, device, number format and number of torch threads. The loop
makes one image a call and saves it as PNG. Both times contain the loading of the checkpoint, but no imports. With
``--mixed`` the jobs differ in everything that a step-level batch may mix: ten samplers, five step counts, guidance on
and off.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

#: Captions are shuffled with it, and it makes the same file on every machine.
SEED = 1
#: What the jobs of a mixed queue are drawn from; a third of them is not guided.
MIXED_SAMPLERS = (
    "DDIM", "PLMS", "Euler", "Euler a", "Heun", "LMS", "DPM++ 2M Karras", "DPM++ 2M SDE", "DEIS", "UniPC",
)  # fmt: skip
MIXED_STEPS = (10, 15, 20, 25, 30)
MIXED_SCALES = (1.0, 5.0, 7.5)


class Rendered(NamedTuple):
    """What rendering the batch took: the command, and from the first job's start to the last one's end."""

    jobs: list[Any]
    wall: float

    @property
    def seconds(self) -> float:
        return float(max(job.finished_at for job in self.jobs) - min(job.started_at for job in self.jobs))


def write_prompts(path: Path, rows: int, mixed: bool) -> None:
    """A file of different prompts of the demo checkpoint's grammar, each with its seed."""
    from worker.demo.grammar import scenes

    draw = random.Random(SEED)
    captions = sorted(scene.caption for scene in scenes())
    draw.shuffle(captions)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("prompt", "seed", "sampler", "steps", "scale"))
        for i in range(rows):
            choice = (
                [draw.choice(kinds) for kinds in (MIXED_SAMPLERS, MIXED_STEPS, MIXED_SCALES)] if mixed else [""] * 3
            )
            writer.writerow((captions[i % len(captions)], i, *choice))


def render(path: Path, home: Path, model: str, threads: int) -> Rendered:
    """Run `promptmill render` in a process of its own; the ledger says what it took."""
    from db.migrate import open_ledger
    from db.search import Query, find

    env = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTMILL_")}
    env |= {"PROMPTMILL_HOME": str(home), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "producer", "render", str(path), "--model", model]
    started = time.perf_counter()
    subprocess.run(command, env=env, check=True)
    wall = time.perf_counter() - started
    ledger = open_ledger(f"sqlite:///{home / 'ledger.sqlite3'}")
    return Rendered(list(find(ledger.engine, Query(), limit=1_000_000)), wall)


def loop(jobs: Sequence[Any], folder: Path, model: str, threads: int) -> float:
    """Make the same images with a bare pipeline, in the order of the file; returns the seconds."""
    import torch

    import_pipeline()
    torch.set_num_threads(threads)
    folder.mkdir()
    started = time.perf_counter()
    pipeline = open_pipeline(model)
    schedulers = {name: open_scheduler(pipeline, name) for name in {job.sampler for job in jobs}}
    for job in sorted(jobs, key=lambda job: job.id):
        pipeline.scheduler = schedulers[job.sampler]
        image = pipeline(
            job.prompt,
            num_inference_steps=job.steps,
            guidance_scale=job.scale,
            width=job.width,
            height=job.height,
            generator=torch.Generator("cpu").manual_seed(job.seed),
        ).images[0]
        image.save(folder / f"{job.id}.png")
    return time.perf_counter() - started


def import_pipeline() -> None:
    """Import before the clock runs what diffusers imports at first use, and keep the libraries quiet."""
    import diffusers
    import transformers

    for settings in (diffusers.utils.logging, transformers.utils.logging):
        settings.disable_progress_bar()
        settings.set_verbosity_error()
    assert diffusers.StableDiffusionPipeline


def open_pipeline(model: str) -> Any:
    """Diffusers' own pipeline, in half precision on a GPU."""
    import diffusers
    import torch

    from configs.checkpoints import checkpoint_path

    pipeline: Any = diffusers.StableDiffusionPipeline.from_pretrained(checkpoint_path(model), use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda", torch.float16) if torch.cuda.is_available() else pipeline.to("cpu", torch.float32)


def open_scheduler(pipeline: Any, sampler_name: str) -> Any:
    """The sampler as diffusers has it."""
    import diffusers

    from configs.samplers import resolve

    sampler = resolve(sampler_name)
    return getattr(diffusers, sampler.scheduler).from_config(pipeline.scheduler.config, **sampler.options)


def report(rendered: Rendered, loop_seconds: float) -> None:
    count = len(rendered.jobs)
    rows = {
        "promptmill render": rendered.seconds,
        "  with start and end": rendered.wall,
        "bare diffusers loop": loop_seconds,
    }
    print(f"{'':<24}{'images':>8}{'seconds':>10}{'images/s':>10}")
    for name, seconds in rows.items():
        print(f"{name:<24}{count:>8}{seconds:>10.2f}{count / seconds:>10.2f}")
    print(f"ratio: {loop_seconds / rendered.seconds:.2f}")


@click.command(help=__doc__)
@click.option("--rows", default=200, show_default=True, type=click.IntRange(1), help="Images made by each side.")
@click.option("--model", default="demo", show_default=True, help="The checkpoint: demo, or a diffusers folder.")
@click.option("--threads", default=os.cpu_count() or 1, type=click.IntRange(1), help="Torch threads.  [default: all]")
@click.option("--mixed", is_flag=True, help="Ten samplers, five step counts, guidance on and off.")
def main(rows: int, model: str, threads: int, mixed: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as folder:
        home = Path(folder)
        write_prompts(home / "prompts.csv", rows, mixed)
        rendered = render(home / "prompts.csv", home, model, threads)
        report(rendered, loop(rendered.jobs, home / "loop", model, threads))


if __name__ == "__main__":
    main()
