"""The original scripts under their own names, with their own flags."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from msgspec import structs

from configs.errors import ConfigError
from configs.parameters import read_parameter
from configs.settings import PREFIX, Settings, get_settings
from producer.commands.course import make
from producer.errors import RunRefused
from producer.options import ParameterType, worker_options

F = TypeVar("F", bound=Callable[..., Any])
UNUSED = "Means nothing any more; says what replaces it."
LAION = (
    "--laion400m is a model of another kind than Stable Diffusion, whose .ckpt is not opened here. Save "
    "CompVis/ldm-text2im-large-256 as a diffusers folder and use `promptmill render FILE --model FOLDER`, or name a "
    "Stable Diffusion checkpoint with --ckpt."
)
KNN2IMG = (
    "The script knn2img.py needs a retrieval model and its search index, which are no Stable Diffusion and are not "
    "opened here. Use `promptmill txt2img`, or `promptmill render FILE` for many prompts."
)


class Whole(click.ParamType):  # type: ignore[type-arg]  # older releases of click have no argument
    """A whole number within bounds."""

    name = "whole"

    def __init__(self, low: int, high: int, multiple: int = 1) -> None:
        self.low, self.high, self.multiple = low, high, multiple

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else self.low - 1
        if self.low <= number <= self.high and number % self.multiple == 0:
            return number
        multiple = f", a multiple of {self.multiple}" if self.multiple > 1 else ""
        self.fail(f"{text!r} is not a whole number from {self.low} to {self.high}{multiple}.", param, ctx)


class Guidance(click.ParamType):  # type: ignore[type-arg]
    """A scale that guides; of less the originals made other pictures than we do."""

    name = "guidance"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        with suppress(ConfigError):
            if (scale := float(read_parameter("scale", value))) >= 1:
                return scale
        self.fail(f"{value!r} is not a number from 1 to 100.", param, ctx)


class Device(click.ParamType):  # type: ignore[type-arg]
    """A device of this machine."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", str(value)):
            return str(value)
        self.fail(f"{value!r} is not cpu, mps, auto, cuda or one of several cards such as cuda:1.", param, ctx)


SIDE = Whole(64, 4096, 64)
MANY = Whole(1, 100_000)


def _option(flag: str, help_text: str, **details: Any) -> Callable[[F], F]:
    """An option whose name in the code is the flag's own: click makes lower case of it."""
    name = flag.lstrip("-").replace("-", "_")
    return click.option(flag, name, help=help_text, **details)


def _switch(flag: str, help_text: str) -> Callable[[F], F]:
    return _option(flag, help_text, is_flag=True)


#: What both scripts take.
SHARED = (
    _option("--prompt", "What is to be in the images.", type=ParameterType("negative_prompt"), metavar="TEXT"),
    _option("--outdir", "Folder that the images and grids go to.", type=click.Path()),
    _switch("--skip_grid", "Draw no grid."),
    _switch("--skip_save", "Put no single images into the outdir."),
    _option("--ddim_steps", "Steps, of any sampler.", type=ParameterType("steps"), metavar="N"),
    _switch("--plms", "Sample with PLMS."),
    _switch("--fixed_code", "Begin each iteration with the same noise."),
    _option("--ddim_eta", "Noise that DDIM adds at each step.", type=ParameterType("eta"), metavar="NUMBER"),
    _option("--n_iter", "Iterations.", type=MANY, metavar="N"),
    _option("--H", "Height.", type=SIDE, metavar="PIXELS"),
    _option("--W", "Width.", type=SIDE, metavar="PIXELS"),
    _option("--C", UNUSED, type=Whole(1, 1024), metavar="N"),
    _option("--f", UNUSED, type=Whole(1, 1024), metavar="N"),
    _option("--n_samples", "Images of an iteration, or of each prompt.", type=Whole(1, 1000), metavar="N"),
    _option("--n_rows", "Images per row of the grid; 0 is n_samples.", type=Whole(0, 1000), metavar="N"),
    _option("--scale", "Guidance, from 1.", type=Guidance(), metavar="NUMBER"),
    _option("--from-file", "File with a prompt a line.", type=click.Path(path_type=Path)),
    _option("--config", UNUSED, type=click.Path()),
    _option("--ckpt", "Checkpoint.  [default: the settings' model]", type=click.Path()),
    _option("--seed", "Seed of the run.", type=Whole(0, 2**32 - 1), metavar="N"),
    _option("--precision", "full is float32.", type=click.Choice(["full", "autocast"])),
    _option("--sampler", "Sampler, by its name in the fork.", type=ParameterType("sampler"), metavar="NAME"),
    _option("--format", "Format of the images.", type=click.Choice(["png", "jpg"]), default="png", show_default=True),
    _option("--unet_bs", UNUSED, type=MANY, metavar="N"),
    _switch("--turbo", UNUSED),
    _option("--device", "Device of the worker started here.", type=Device(), metavar="DEVICE"),
    _switch("--weights", "Take text:number in prompts as weights, as the fork did."),
    _option(
        "--compat", "Whose defaults, names and noise.", type=click.Choice(["compvis", "optimized"]), default="compvis",
        show_default=True,
    ),
    worker_options,
)  # fmt: skip


def _with(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command()
@_with(*SHARED)
@_switch("--dpm_solver", "Sample with DPM-Solver.")
@_switch("--laion400m", "Not to be had; says what to use.")
@click.pass_context
def txt2img(context: click.Context, /, **flags: Any) -> None:
    """Make images as the script txt2img.py did.

    Flags and defaults are those of CompVis, or with --compat optimized of the fork optimizedSD. The images go through
    ledger and queue as those of `promptmill render`, and then into the outdir: samples/00000.png and grid-0000.png, or
    a folder named after the prompt. No file is ever overwritten.

    \b
    promptmill txt2img --prompt "a red circle" --plms --n_samples 1 --n_iter 4 --H 128 --W 128
    promptmill txt2img --compat optimized --from-file prompts.txt --seed 7
    """
    if flags.pop("laion400m"):
        raise RunRefused(LAION)
    _run(context, flags)


@click.command()
@_with(*SHARED)
@_option("--init-img", "Image to begin with.", type=ParameterType("init_image"), metavar="PATH")
@_option("--strength", "How much of it is made anew.", type=ParameterType("strength"), metavar="NUMBER")
@click.pass_context
def img2img(context: click.Context, /, **flags: Any) -> None:
    """Make images from an image, as the script img2img.py did.

    As `txt2img`; the size is that of the init image, rounded down to a multiple of 32 pixels (64 with --compat
    optimized).

    \b
    promptmill img2img --init-img sketch.png --strength 0.6 --prompt "a castle"
    """
    _run(context, flags)


@click.command()
@_option("--prompt", "What is to be in the holes.", type=ParameterType("negative_prompt"), default="", metavar="TEXT")
@_option("--init-img", "Picture with a hole.", type=ParameterType("init_image"), metavar="PATH")
@_option("--mask", "Picture that is white where the hole is.", type=ParameterType("mask_image"), metavar="PATH")
@_option("--indir", "Folder of pairs, NAME.png and NAME_mask.png, in place of the two.", type=click.Path())
@_option("--outdir", "Folder of the results.", type=click.Path(), default="outputs/inpaint-samples", show_default=True)
@_option("--steps", "Steps.", type=ParameterType("steps"), default=50, show_default=True, metavar="N")
@_option("--n_samples", "Results of each picture.", type=Whole(1, 1000), default=1, show_default=True, metavar="N")
@_option("--scale", "Guidance.  [default: 7.5, none without a prompt]", type=Guidance(), metavar="NUMBER")
@_option("--strength", "How much of what was in the hole is made anew.", type=ParameterType("strength"), default=1.0,
      show_default=True, metavar="NUMBER")  # fmt: skip
@_option("--sampler", "Sampler.", type=ParameterType("sampler"), default="DDIM", show_default=True, metavar="NAME")
@_option("--seed", "Seed.  [default: drawn for each picture]", type=ParameterType("seed"), metavar="N")
@_option("--ckpt", "Checkpoint.  [default: the settings' model]", type=click.Path())
@_option("--device", "Device of the worker started here.", type=Device(), metavar="DEVICE")
@worker_options
def inpaint(**flags: Any) -> None:
    """Fill the holes of pictures, as the script inpaint.py did.

    A hole is what is white in a mask. What lies around it keeps its very pixels; the size is that of the picture,
    rounded down to a multiple of 8 pixels. The result of cat.png is cat.png in the outdir, or cat-2.png where that is
    there already: no file is ever overwritten.

    \b
    promptmill inpaint --indir photos/ --outdir filled/ --steps 50
    promptmill inpaint --init-img cat.png --mask hole.png --prompt "a red hat"
    """
    from producer.inpainting import read_inpainting

    settings = _settings(flags.pop("device"))
    vram = flags.pop("vram")
    asked = read_inpainting(flags, settings)
    make(asked.submission(settings.chunk_size), asked.outdir, list(asked.remarks()), settings, vram)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def knn2img(**_: Any) -> NoReturn:
    """Say what replaces the script knn2img.py.

    Its model looks pictures up in an index and is no Stable Diffusion.
    """
    raise RunRefused(KNN2IMG)


def _run(context: click.Context, flags: dict[str, Any]) -> None:
    from producer.originals import read_run
    from producer.remarks import remarks
    from producer.run_rows import submission_of

    settings = _settings(flags.pop("device"))
    vram = flags.pop("vram")
    run = read_run(str(context.info_name), flags, settings)
    make(submission_of(run, settings.chunk_size), run.outdir, list(remarks(run, _given(context))), settings, vram)


def _settings(device: str | None) -> Settings:
    """The settings with that device, also for the worker."""
    settings = get_settings()
    if not device:
        return settings
    os.environ[f"{PREFIX}DEVICE"] = device
    return structs.replace(settings, device=device)


def _given(context: click.Context) -> list[str]:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is click.core.ParameterSource.COMMANDLINE]
