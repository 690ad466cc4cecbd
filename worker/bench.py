"""``python -m worker.bench``: the engine on a mixed queue, against diffusers' own pipeline in the same run.

Both use the same weights on the same device. The pipeline is given finished prompt embeddings, which costs it nothing.
Work is counted in rows, one sample in one UNet call, since the pipeline's batches cannot be mixed and the queue is.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import click
import diffusers
import msgspec
import torch
from torch.utils.flop_counter import FlopCounterMode

from configs.errors import ConfigError
from configs.samplers import resolve
from configs.settings import Settings, get_settings
from worker import workload
from worker.checkpoints import Checkpoint, open_checkpoint, pick_device
from worker.engine import Engine
from worker.errors import CheckpointUnsupported, WorkerError
from worker.memory import cap_memory, release_memory
from worker.plain import PlainCheckpoint
from worker.predictor import keep_compiled
from worker.renderer import Renderer
from worker.renderers import COMPILED, make_renderer
from worker.room import most_rows
from worker.sample import Sample
from worker.samplers import make_scheduler

#: The pipeline's batch is doubled while it gains this much.
WORTH = 1.03
LARGEST_BATCH = 64
#: Steps of the samples that the engine makes before it is measured.
WARM_UP = 5
#: Rows of the engine's calls, where the settings say nothing.
ROWS = 16


class Run(msgspec.Struct):
    """What some images took, and of how many rows they were made."""

    name: str
    images: int
    rows: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


class Figures(msgspec.Struct):
    """Everything measured, as ``--json`` prints it."""

    model: str
    device: str
    dtype: str
    torch: str
    width: int
    height: int
    engine: Run
    single: Run
    batched: Run
    #: Share of the rows of the engine's UNet calls that held a sample.
    rows_used: float
    #: The same of the calls before the last sample was begun.
    rows_used_before_tail: float
    #: Rows of a full UNet call.
    max_rows: int
    #: Seconds of the engine's thread by what it did.
    stages: dict[str, float]
    flops_per_row: int
    #: FLOP/s of a dense matrix product.
    peak: float
    #: Most bytes of the card that the engine held at once; 0 on a CPU.
    memory: int

    @property
    def share_of_peak(self) -> float:
        return self.engine.rows_per_second * self.flops_per_row / self.peak


def measure(checkpoint: Checkpoint, settings: Settings, images: int, size: tuple[int, int]) -> Figures:
    """Run the pipeline over some of a mixed queue, and at its best batch, then the engine over all of it.

    In this order: the engine changes the models for speed.
    """
    queue = workload.mixed(images, checkpoint.name, *size)
    pipeline = Pipeline(checkpoint)
    single = pipeline.run("diffusers, one at a time", [[sample] for sample in queue[: max(8, images // 8)]])
    batched = best_batch(pipeline, checkpoint.name, size)
    flops = flops_per_row(checkpoint, queue[0])
    release_memory()
    run, engine, memory = run_engine(checkpoint, settings, queue)
    progress = engine.progress
    return Figures(
        model=checkpoint.name,
        device=checkpoint.device_name,
        dtype=checkpoint.dtype_name,
        torch=str(torch.__version__),
        width=size[0],
        height=size[1],
        engine=run,
        single=single,
        batched=batched,
        rows_used=progress.share_used,
        rows_used_before_tail=progress.share_used_before_tail,
        max_rows=engine.max_rows(queue[0].shape),
        stages={stage: round(seconds, 4) for stage, seconds in progress.seconds.most_common()},
        flops_per_row=flops,
        peak=matrix_rate(checkpoint.device, checkpoint.dtype),
        memory=memory,
    )


def run_engine(
    checkpoint: Checkpoint,
    settings: Settings,
    queue: Sequence[Sample],
    watching: AbstractContextManager[object] | None = None,
) -> tuple[Run, Engine, int]:
    """All samples at once, from the first one's submission to the last one's picture; and the memory they took.

    Others go before, unmeasured: they warm the device up, settle the rows of a call, and have it compiled.
    watching: entered around what is measured.
    """
    device, shape = checkpoint.device, queue[0].shape
    most = settings.max_rows or most_rows(device)

    def work(_width: int, _height: int) -> int:
        return engine.waiting_work(shape)

    engine = Engine(lambda _, progress: make_renderer(checkpoint, settings, progress, work), max_rows=most)
    _render(engine, [replace(sample, steps=WARM_UP) for sample in islice(cycle(queue), 4 * most)])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    engine.progress.forget()
    with watching or nullcontext():
        started = time.perf_counter()
        _render(engine, queue)
        seconds = time.perf_counter() - started
    engine.close(finish=True)
    memory = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    return Run("promptmill", len(queue), engine.progress.rows_used, seconds), engine, memory


def _render(engine: Engine, samples: Iterable[Sample]) -> None:
    for future in [engine.submit(sample) for sample in samples]:
        future.result()


class Pipeline:
    """Diffusers' pipeline on the modules of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        # It is only asked for the embeddings of texts, and shall compile no tables for that.
        self._renderer = Renderer(checkpoint, sampling="objects")
        parts: dict[str, Any] = {"vae": checkpoint.vae, "unet": checkpoint.unet, "scheduler": None}
        if len(checkpoint.text_encoders) > 1:
            texts = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
            self._pipeline: Any = diffusers.StableDiffusionXLPipeline(**parts, **texts, add_watermarker=False)
        else:
            absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
            self._pipeline = diffusers.StableDiffusionPipeline(**parts, **absent, requires_safety_checker=False)
        self._pipeline.set_progress_bar_config(disable=True)

    def run(self, name: str, batches: Sequence[Sequence[Sample]]) -> Run:
        """One call for each batch of samples that differ in prompt and seed alone."""
        rows = 0

        def count(_unet: Any, arguments: tuple[Any, ...]) -> None:
            nonlocal rows
            rows += len(arguments[0])

        self._call(batches[0], steps=2)
        counting = self._checkpoint.unet.register_forward_pre_hook(count)
        started = time.perf_counter()
        for batch in batches:
            self._call(batch, batch[0].steps)
        seconds = time.perf_counter() - started
        counting.remove()
        return Run(name, sum(map(len, batches)), rows, seconds)

    def _call(self, batch: Sequence[Sample], steps: int) -> None:
        one = batch[0]
        self._pipeline.scheduler = make_scheduler(resolve(one.sampler), self._checkpoint.scheduler_config)
        flights = [self._renderer.start(sample) for sample in batch]
        embedded = {"prompt_embeds": torch.cat([flight.positive.text for flight in flights])}
        if one.guided:
            embedded["negative_prompt_embeds"] = torch.cat([f.negative.text for f in flights if f.negative])
        pooled = [flight.positive.pooled for flight in flights if flight.positive.pooled is not None]
        if pooled:
            embedded["pooled_prompt_embeds"] = torch.cat(pooled)
            embedded["negative_pooled_prompt_embeds"] = torch.zeros_like(embedded["pooled_prompt_embeds"])
        generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in batch]
        self._pipeline(
            **embedded,
            num_inference_steps=steps,
            guidance_scale=one.scale,
            width=one.width,
            height=one.height,
            generator=generators,
        )


def best_batch(pipeline: Pipeline, model: str, size: tuple[int, int]) -> Run:
    """The pipeline's best run over uniform batches of 1, 2, 4 … images, as far as larger ones gain and fit."""
    best: Run | None = None
    count = 1
    while count <= LARGEST_BATCH:
        try:
            run = pipeline.run(f"diffusers, batch of {count}", [workload.uniform(count, model, *size)])
        except torch.OutOfMemoryError:
            break
        if best and run.rows_per_second < WORTH * best.rows_per_second:
            break
        best, count = run, 2 * count
    assert best
    return best


def flops_per_row(checkpoint: Checkpoint, sample: Sample) -> int:
    """Floating-point operations of one UNet row of that size, counted."""
    renderer = Renderer(checkpoint)
    flight = renderer.start(sample)
    with FlopCounterMode(display=False) as counter:
        renderer.step([flight])
    return int(counter.get_total_flops() // sample.rows)


def matrix_rate(device: torch.device, dtype: torch.dtype, repeats: int = 10) -> float:
    """FLOP/s of a dense square matrix product, the best of some."""
    side = 8192 if device.type == "cuda" else 1024
    one = torch.randn(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        (one @ one)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def describe(figures: Figures) -> str:
    """The figures as a table for people."""
    engine, total = figures.engine, sum(figures.stages.values())
    stages = (f"{name} {seconds / total:.1%}" for name, seconds in figures.stages.items())
    what = f"{engine.images} mixed images of {figures.width}x{figures.height}, {figures.model}"
    lines = [
        f"{what} on {figures.device} in {figures.dtype}, torch {figures.torch}",
        f"{'':<28}{'images':>8}{'images/s':>10}{'rows/s':>10}{'ratio':>8}",
    ]
    for run in (engine, figures.single, figures.batched):
        rates = f"{run.images_per_second:>10.2f}{run.rows_per_second:>10.1f}"
        lines.append(f"{run.name:<28}{run.images:>8}{rates}{engine.rows_per_second / run.rows_per_second:>8.2f}")
    tail = f", {figures.rows_used_before_tail:.1%} before the last was begun"
    peak = f"{figures.peak / 1e12:.3g} TFLOP/s, a row is {figures.flops_per_row / 1e9:.4g} GFLOP"
    return "\n".join(
        [
            *lines,
            f"rows used        {figures.rows_used:.1%} of {figures.max_rows} a call{tail}",
            f"share of peak    {figures.share_of_peak:.1%} of {peak}",
            f"engine's thread  {', '.join(stages)}",
            *([f"memory           {figures.memory / 2**30:.2f} GiB"] if figures.memory else []),
        ]
    )


@click.command(help=__doc__)
@click.option("--model", help="The checkpoint.  [default: the settings']")
@click.option("--images", default=64, show_default=True, type=click.IntRange(8), help="Images the engine makes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(model: str | None, images: int, as_json: bool) -> None:
    try:
        settings = get_settings()
        name = model or str(settings.job["model"])
        keep_compiled(settings.home / COMPILED)
        cap_memory(pick_device(settings.device), settings.vram)
        with torch.no_grad():
            checkpoint = open_checkpoint(name, device=settings.device, dtype=settings.dtype, offload=settings.offload)
            if isinstance(checkpoint, PlainCheckpoint):
                raise CheckpointUnsupported(f"{name} is rendered by its own pipeline: there is nothing to compare.")
            figures = measure(checkpoint, settings, images, checkpoint.native_size)
    except (ConfigError, WorkerError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))
    click.echo(msgspec.json.encode(figures).decode() if as_json else describe(figures))


if __name__ == "__main__":
    main()
