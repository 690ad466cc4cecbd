"""What several commands take from the command line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from configs.byte_count import ByteCount
from configs.errors import ConfigError
from configs.parameters import PARAMETERS, read_parameter
from configs.settings import PREFIX, read_preset

if TYPE_CHECKING:
    from producer.sweep import Sweep

F = TypeVar("F", bound=Callable[..., Any])

#: Parameters of a job that make sense for a whole file.
FLAGS = (
    "negative_prompt", "model", "sampler", "steps", "scale", "width", "height", "seed", "num_images", "init_image",
    "mask_image", "strength", "eta", "precision", "compat", "weights",
)  # fmt: skip


PRESET = "A set of parameters that ships with Promptmill; flags go over it."


class ParameterType(click.ParamType):  # type: ignore[type-arg]  # older releases of click have no argument
    """A job's parameter, checked by the same rules as a cell of a prompt file."""

    def __init__(self, parameter: str) -> None:
        self.name = self.parameter = parameter

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return read_parameter(self.parameter, value)
        except ConfigError as error:
            self.fail(f"{error}.", param, ctx)


class Memory(click.ParamType):  # type: ignore[type-arg]
    """``6G``: an amount of memory."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ByteCount:
        try:
            return ByteCount.read(value)
        except ConfigError as error:
            self.fail(f"{error}.", param, ctx)


class Tag(click.ParamType):  # type: ignore[type-arg]
    """``NAME=VALUE``: a column of the prompt file, and what it must hold."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, separator, wanted = str(value).partition("=")
        if not separator:
            self.fail(f"{value!r} is not NAME=VALUE, such as category=Animals.", param, ctx)
        return name, wanted


class SweepType(click.ParamType):  # type: ignore[type-arg]
    """``steps=20,30,50``."""

    name = "sweep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Sweep":
        from producer.sweep import read_sweep

        try:
            return read_sweep(str(value))
        except ConfigError as error:
            self.fail(f"{error}.", param, ctx)


def worker_options(command: F) -> F:
    """What can be said about the worker that a command starts."""
    return click.option(
        "--vram", type=Memory(), metavar="SIZE",
        help="Most memory of the card that the worker takes, such as 6G.  [default: all]",
    )(command)  # fmt: skip


def fleet_options(command: F) -> F:
    """Which workers a command starts."""
    gpus = click.option(
        "--gpus", callback=lambda _ctx, _param, value: tuple(value.split(",")) if value else (), metavar="0,1",
        help="The GPUs that get a worker, by index or UUID.  [default: all]",
    )  # fmt: skip
    workers = click.option("--workers", type=click.IntRange(1, 64), help="Workers on the CPU.  [default: 1]")
    return gpus(workers(command))


def equip_worker(preset: str | None, vram: int | None) -> None:
    """Let the worker we start find the preset's settings, and the flags that go over them, in its environment."""
    equipment = dict(read_preset(preset).get("worker", {})) if preset else {}
    if vram is not None:
        equipment["vram"] = vram
    for name, value in equipment.items():
        os.environ[f"{PREFIX}{name.upper()}"] = str(value)


def submission_options(command: F) -> F:
    """FILE, and everything that can be said about the batch it becomes."""
    for decorate in reversed(_submission_options()):
        command = decorate(command)
    return command


def _submission_options() -> list[Callable[[F], F]]:
    return [
        click.argument("file", type=click.Path(allow_dash=True)),
        *(_parameter_option(name) for name in FLAGS),
        *_expansion_options(),
        click.option("--preset", help=PRESET),
        click.option("--name", help="Name of the batch.  [default: the file's name]"),
        click.option(
            "--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="0 is made first, 9 last."
        ),
        click.option(
            "--format", "image_format", type=click.Choice(["png", "jpeg", "webp"]), help="Format of the images."
        ),
    ]


def _expansion_options() -> list[Callable[[F], F]]:
    """Everything that makes prompts of prompts, and rows of rows."""
    return [
        click.option(
            "--template", type=click.Choice(["random", "combinatorial"]),
            help="Take prompts as templates, as in {red|blue} __animal__.",
        ),
        click.option(
            "--template-seed", type=click.IntRange(0), metavar="N", help="Draws the same again.  [default: drawn]"
        ),
        click.option(
            "--template-prompts", type=click.IntRange(1, 10**9), metavar="N",
            help="Prompts drawn from each template.  [default: one an image]",
        ),
        click.option("--wildcards", type=click.Path(path_type=Path), metavar="FOLDER", help="Lists for templates."),
        click.option(
            "--sweep", type=SweepType(), multiple=True, metavar="NAME=VALUES",
            help="steps=20,30,50 or scale=5:9:1; several make every combination.",
        ),
        click.option("--prepend", metavar="TEXT", help="Text before each prompt."),
        click.option("--append", metavar="TEXT", help="Text behind each prompt."),
        click.option("--append-negative", metavar="TEXT", help="Text behind each negative prompt."),
        click.option("--styles", type=click.Path(path_type=Path), metavar="FILE", help="A styles.csv as of A1111."),
        click.option("--style", multiple=True, metavar="NAME", help="A style for each prompt."),
        click.option(
            "--max-jobs", type=click.IntRange(1, 10**9), metavar="N", help="Most that templates and sweeps may make."
        ),
    ]  # fmt: skip


def _parameter_option(name: str) -> Callable[[F], F]:
    return click.option(
        f"--{name.replace('_', '-')}", name, type=ParameterType(name), metavar="VALUE",
        help=PARAMETERS[name].allowed,
    )  # fmt: skip
