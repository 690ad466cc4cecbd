"""The engine on an NVIDIA GPU, with random weights in the real shapes of Stable Diffusion 1.x and XL.

What is measured does not depend on what the weights are, so nothing is downloaded. Each stage runs in a process of its
own, in less than ten minutes on a fast card, and keeps its figures in the folder; the last one writes them as a table
in Markdown. ``--stage NAME`` runs one of them again. ``--tiny`` goes through all of it with tiny models on the CPU, and
its figures mean nothing.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

#: FLOP of one UNet row of SD 1.x at 512x512, counted.
ROW = 803.3e9
FAMILIES = {"sd": "sd-v1", "sdxl": "sdxl"}
#: Changes to the shipped configurations that make models tiny.
TINY: dict[str, dict[str, dict[str, Any]]] = {
    "sd": {
        "unet": {
            "block_out_channels": [32, 32, 32, 32],
            "layers_per_block": 1,
            "cross_attention_dim": 32,
            "sample_size": 8,
            "norm_num_groups": 8,
        },
        "vae": {"block_out_channels": [32] * 4, "layers_per_block": 1, "sample_size": 64},
        "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    },
    "sdxl": {
        "unet": {
            "block_out_channels": [32, 32, 32],
            "attention_head_dim": [2, 2, 2],
            "transformer_layers_per_block": [1, 1, 1],
            "layers_per_block": 1,
            "cross_attention_dim": 64,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
            "sample_size": 8,
            "norm_num_groups": 8,
        },
        "vae": {"block_out_channels": [32] * 4, "layers_per_block": 1, "sample_size": 64},
        "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        "text_encoder_2": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "projection_dim": 32,
        },
    },
}  # fmt: skip
#: The speed settings, all off, each alone, and all.
OFF = {"channels_last": "off", "fused_projections": "off", "compile": "off"}
SPEEDS = {"off": OFF, **{f"{name} alone": {**OFF, name: "on"} for name in OFF}, "all": dict.fromkeys(OFF, "on")}
#: Self-attention of SD 1.x at 512x512: heads, tokens, numbers of each.
ATTENTION = ((8, 4096, 40), (8, 1024, 80), (8, 256, 160))


@dataclass(frozen=True)
class Place:
    """Where and how large everything is."""

    folder: Path
    images: int
    tiny: bool

    def settings(self, **changes: object) -> Any:
        """Settings with a home in the folder: profile and compiled calls stay from stage to stage."""
        from configs.settings import read_settings

        base = {"home": self.folder / "home", "device": "cpu" if self.tiny else "cuda"}
        base |= {"dtype": "float32", "max_rows": 4} if self.tiny else {"dtype": "float16"}
        return read_settings(
            {f"PROMPTMILL_{name.upper()}": str(value) for name, value in (base | changes).items()}, self.folder
        )

    def open(self, family: str, settings: Any) -> Any:
        """A checkpoint of random weights, in the number format and place that the settings say."""
        from worker.checkpoints import open_checkpoint
        from worker.predictor import keep_compiled
        from worker.renderers import COMPILED

        keep_compiled(settings.home / COMPILED)
        folder = self.folder / family
        if not folder.exists():
            save_random(family, folder, TINY[family] if self.tiny else {})
        return open_checkpoint(str(folder), device=settings.device, dtype=settings.dtype, offload=settings.offload)

    def queue(self, checkpoint: Any, count: int) -> list[Any]:
        """Mixed samples of the checkpoint's own size."""
        from worker.workload import mixed

        samples = mixed(max(8, count), checkpoint.name, *checkpoint.native_size)
        return [replace(sample, steps=3, sampler="DDIM") for sample in samples] if self.tiny else samples


def save_random(family: str, folder: Path, changes: dict[str, dict[str, Any]]) -> None:
    """A diffusers folder of the family with random weights in half precision."""
    import shutil

    import diffusers
    import torch
    import transformers

    from configs.checkpoints import SHIPPED

    diffusers.utils.logging.set_verbosity_error()
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(SHIPPED / FAMILIES[family], fresh)
    index = json.loads((fresh / "model_index.json").read_text("utf-8"))
    torch.manual_seed(0)
    for part, (library, name) in ((part, pair) for part, pair in index.items() if isinstance(pair, list) and pair[0]):
        if "tokenizer" in part:
            # Which numbers stand for a word does not matter.
            shutil.copytree(SHIPPED / "demo" / "tokenizer", fresh / part)
        elif part != "scheduler":
            config = json.loads((fresh / part / "config.json").read_text("utf-8")) | changes.get(part, {})
            kind = getattr(diffusers if library == "diffusers" else transformers, name)
            made = kind.from_config(config) if library == "diffusers" else kind(kind.config_class(**config))
            made.to(torch.float16).save_pretrained(fresh / part, max_shard_size="50GB")
    fresh.rename(folder)


class DeviceTime(AbstractContextManager["DeviceTime"]):
    """What share of the time in the block the card computed nothing."""

    idle: float | None = None
    """None where there is no card."""

    def __enter__(self) -> "DeviceTime":
        import torch
        from torch.profiler import ProfilerActivity, profile

        self._on_card = torch.cuda.is_available()
        self._profile = profile(activities=[ProfilerActivity.CUDA if self._on_card else ProfilerActivity.CPU])
        self._profile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        from torch.autograd import DeviceType

        self._profile.__exit__(*error)
        events = self._profile.events() if self._on_card else []
        spans = sorted((e.time_range.start, e.time_range.end) for e in events if e.device_type == DeviceType.CUDA)
        if spans:
            self.idle = 1 - covered(spans) / (max(end for _, end in spans) - spans[0][0])


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of spans, sorted by their starts."""
    total, reached = 0.0, spans[0][0]
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def measure_peak(place: Place) -> dict[str, Any]:
    """Dense matrix products, and which attention kernel torch takes at the sizes of SD 1.x."""
    import torch
    from torch.nn.attention import SDPBackend

    from worker.bench import matrix_rate

    device = torch.device("cpu" if place.tiny else "cuda")
    dtype = torch.float32 if place.tiny else torch.float16
    names = {int(backend): name for name, backend in SDPBackend.__members__.items()}
    attention = {}
    for heads, tokens, numbers in ATTENTION:
        query = torch.empty(2, heads, tokens, numbers, device=device, dtype=dtype)
        attention[f"{tokens} x {numbers}"] = names[torch._fused_sdp_choice(query, query, query)]
    rates = {"float16": matrix_rate(device, dtype)} if place.tiny else {
        "float16": matrix_rate(device, torch.float16), "bfloat16": matrix_rate(device, torch.bfloat16)
    }  # fmt: skip
    return {"flops": rates, "attention": attention}


def run(place: Place, family: str, count: int, watching: Any = None, **changes: object) -> dict[str, Any]:
    """The engine over a mixed queue, with settings changed."""
    from worker.bench import run_engine
    from worker.memory import cap_memory

    settings = place.settings(**changes)
    if "vram" in changes:
        import torch

        cap_memory(torch.device(settings.device), settings.vram)
    checkpoint = place.open(family, settings)
    queue = place.queue(checkpoint, count)
    figures, engine, memory = run_engine(checkpoint, settings, queue, watching)
    progress = engine.progress
    return {
        "device": checkpoint.device_name,
        "size": "{}x{}".format(*checkpoint.native_size),
        "images": figures.images,
        "rows": figures.rows,
        "seconds": figures.seconds,
        "images_per_second": figures.images_per_second,
        "rows_per_second": figures.rows_per_second,
        "rows_used": progress.share_used,
        "rows_used_before_tail": progress.share_used_before_tail,
        "rows_of_a_call": engine.max_rows(queue[0].shape),
        "stages": dict(progress.seconds),
        "memory": memory,
    }


def measure_queue(place: Place) -> dict[str, Any]:
    """The mixed queue; and the card's idle time, over a part of it."""
    on = SPEEDS["all"]
    found = run(place, "sd", place.images, **on)
    watching = DeviceTime()
    # A processor has no idle time to be seen, and to compile for it again takes a while.
    run(place, "sd", place.images // 10, watching, **(OFF if place.tiny else on))
    return {**found, "idle": watching.idle}


def measure_pipeline(place: Place, family: str = "sd", count: int = 24) -> dict[str, Any]:
    """The bare pipeline one image at a time, and at its best batch."""
    import torch

    from worker.bench import Pipeline, best_batch

    checkpoint = place.open(family, place.settings(**OFF))
    with torch.no_grad():
        pipeline = Pipeline(checkpoint)
        queue = place.queue(checkpoint, count)[:count]
        single = pipeline.run("one at a time", [[sample] for sample in queue])
        batched = best_batch(pipeline, checkpoint.name, checkpoint.native_size)
    runs = {"one at a time": single, batched.name.removeprefix("diffusers, "): batched}
    return {name: {"rows_per_second": run.rows_per_second, "images": run.images} for name, run in runs.items()}


def measure_speed(name: str) -> Callable[[Place], dict[str, Any]]:
    return lambda place: run(place, "sd", place.images // 5, **SPEEDS[name])


def measure_memory(place: Place) -> dict[str, Any]:
    """A card of 6 GB, emulated, with the preset for small cards."""
    import torch

    from configs.settings import read_preset

    found = run(place, "sd", place.images // 20, **{**read_preset("low-vram")["worker"], "vram": "6G"})
    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (0, 0)
    return {**found, "on_card": total - free}


def measure_exact(place: Place) -> dict[str, Any]:
    """The verdict of the self-test, with the UNet as it is and compiled."""
    from worker.exact import ExactLayout, make_deterministic
    from worker.progress import Progress
    from worker.renderers import make_fast, make_predictor, make_rooms

    make_deterministic()
    verdicts = {}
    for name in ("off", "all"):
        settings = place.settings(**SPEEDS[name], exact=True, max_rows=4 if place.tiny else 16)
        checkpoint = make_fast(place.open("sd", settings), settings)
        rooms = make_rooms(checkpoint, settings)
        predictor = make_predictor(checkpoint, rooms, settings, Progress())
        verdicts[name] = ExactLayout(checkpoint, rooms, predictor).fault(*checkpoint.native_size) or "exact"
    return verdicts


def measure_sdxl(place: Place) -> dict[str, Any]:
    """SDXL, whose shape is large enough to fill a card with few rows."""
    found = run(place, "sdxl", place.images // 25, **({} if place.tiny else {"max_rows": 32}), **SPEEDS["all"])
    return {**found, "pipeline": measure_pipeline(place, "sdxl", 4)}


STAGES: dict[str, Callable[[Place], dict[str, Any]]] = {
    "peak": measure_peak,
    "pipeline": measure_pipeline,
    "queue": measure_queue,
    **{f"speed {name}": measure_speed(name) for name in SPEEDS},
    "memory": measure_memory,
    "exact": measure_exact,
    "sdxl": measure_sdxl,
}


def report(folder: Path) -> str:
    """What the stages have found so far, as a table in Markdown."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("results/*.json")}
    lines = [line for name, describe in DESCRIPTIONS.items() if name in found for line in describe(found)]
    return (
        "\n".join(["| Measured | Figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in lines)]) + "\n"
    )


Lines = Iterator[tuple[str, str]]


def describe_peak(found: dict[str, Any]) -> Lines:
    for dtype, rate in found["peak"]["flops"].items():
        yield f"dense {dtype} matrix product", f"{rate / 1e12:.0f} TFLOP/s"
    kernels = ", ".join(f"{size}: {name}" for size, name in found["peak"]["attention"].items())
    yield "attention kernel, by tokens x numbers of a head", kernels


def describe_pipeline(found: dict[str, Any]) -> Lines:
    for name, run in found["pipeline"].items():
        yield f"bare pipeline, {name}", f"{run['rows_per_second']:.1f} rows/s"


def describe_queue(found: dict[str, Any]) -> Lines:
    queue = found["queue"]
    yield "device", queue["device"]
    what = f"{queue['images']} mixed images of {queue['size']}"
    yield what, f"{queue['images_per_second']:.2f} images/s, {queue['rows_per_second']:.1f} rows/s"
    yield "rows of a call", f"{queue['rows_of_a_call']}"
    yield "rows used", f"{queue['rows_used']:.1%}, {queue['rows_used_before_tail']:.1%} before the tail"
    yield "card idle", "unknown" if queue["idle"] is None else f"{queue['idle']:.1%}"
    if "peak" in found:
        rate = max(found["peak"]["flops"].values())
        yield "share of the peak, at 803.3 GFLOP a row", f"{queue['rows_per_second'] * ROW / rate:.1%}"
    for name, run in found.get("pipeline", {}).items():
        yield f"engine against bare pipeline, {name}", f"{queue['rows_per_second'] / run['rows_per_second']:.2f}"


def describe_speed(name: str) -> Callable[[dict[str, Any]], Lines]:
    def describe(found: dict[str, Any]) -> Lines:
        rate, bare = found[f"speed {name}"]["rows_per_second"], found.get("speed off", {}).get("rows_per_second")
        gain = f", {rate / bare:.2f} times" if bare else ""
        yield f"speed settings: {name}", f"{rate:.1f} rows/s{gain}"

    return describe


def describe_memory(found: dict[str, Any]) -> Lines:
    memory = found["memory"]
    figure = f"{memory['memory'] / 2**30:.2f} GiB by torch, {memory['on_card'] / 2**30:.2f} GiB on the card"
    yield "memory under a cap of 6 GB, preset low-vram", f"{figure}, {memory['images_per_second']:.2f} images/s"


def describe_exact(found: dict[str, Any]) -> Lines:
    for name, verdict in found["exact"].items():
        yield f"self-test of exact mode, speed settings {name}", verdict


def describe_sdxl(found: dict[str, Any]) -> Lines:
    sdxl = found["sdxl"]
    rates = f"{sdxl['images_per_second']:.2f} images/s, {sdxl['rows_per_second']:.1f} rows/s"
    yield f"SDXL, {sdxl['images']} mixed images of {sdxl['size']}", f"{rates}, {sdxl['memory'] / 2**30:.1f} GiB"
    for name, run in sdxl["pipeline"].items():
        yield f"SDXL against bare pipeline, {name}", f"{sdxl['rows_per_second'] / run['rows_per_second']:.2f}"


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], Lines]] = {
    "peak": describe_peak,
    "pipeline": describe_pipeline,
    "queue": describe_queue,
    **{f"speed {name}": describe_speed(name) for name in SPEEDS},
    "memory": describe_memory,
    "exact": describe_exact,
    "sdxl": describe_sdxl,
}


def run_stage(name: str, place: Place) -> None:
    """Run a stage here, and keep its figures."""
    if place.tiny:
        from worker import bench, predictor

        # The compiler proper takes a minute, however tiny the model.
        predictor.BACKEND, bench.LARGEST_BATCH = "eager", 4
    found = STAGES[name](place)
    results = place.folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def has_card() -> bool:
    import torch

    return torch.cuda.is_available()


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path), default="gpu-figures", show_default=True)
@click.option("--stage", type=click.Choice(["all", *STAGES]), default="all", show_default=True)
@click.option("--images", default=1000, show_default=True, type=click.IntRange(8), help="Images of the mixed queue.")
@click.option("--tiny", is_flag=True, help="Tiny models on the CPU.")
def main(folder: Path, stage: str, images: int, tiny: bool) -> None:
    place = Place(folder.resolve(), images, tiny)
    if not tiny and not has_card():
        click.echo("There is no NVIDIA GPU here; --tiny goes through the same steps on the CPU.")
        return
    if stage != "all":
        run_stage(stage, place)
    for name in STAGES if stage == "all" else ():
        click.echo(f"{name} …", err=True)
        options = ["--folder", folder, "--images", images, *(["--tiny"] if tiny else [])]
        # One that fails leaves the others their turn.
        subprocess.run([sys.executable, __file__, "--stage", name, *map(str, options)], check=False)
    table = report(place.folder)
    (place.folder / "figures.md").write_text(table, encoding="utf-8")
    click.echo(table)


if __name__ == "__main__":
    main()
