"""``python -m worker.models``: looks into checkpoints and converts them, for `promptmill models`.

What is found, or why not, goes to standard output as one JSON object; how far it is to standard error.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from worker.errors import WorkerError

PRECISIONS = ("float16", "bfloat16", "float32")


@click.group()
def main() -> None:
    """Look into checkpoints, and convert them."""


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def inspect(path: Path) -> None:
    """Print what the file or diffusers folder PATH is, with its hash."""
    from worker.inspection import inspect

    with _refusing(), _bar("Reading", _size(path)) as progress:
        found = inspect(path, progress)
    click.echo(json.dumps(asdict(found)))


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--precision", type=click.Choice(PRECISIONS), default="float16", show_default=True)
@click.option("--ema", is_flag=True, help="Take the averages of training as the UNet's weights.")
def convert(source: Path, target: Path, precision: str, ema: bool) -> None:
    """Write the single file SOURCE as the safetensors file TARGET; print what that is."""
    from worker.conversion import convert, plan
    from worker.families import find_family
    from worker.inspection import inspect
    from worker.weight_file import open_weight_file

    with _refusing():
        file = open_weight_file(source)
        family = find_family(source, file.header)
        size = sum(entry.bytes for entry in plan(file, family, precision, averaged=ema))
        with _bar("Converting", size) as progress:
            convert(file, family, target, precision, averaged=ema, progress=progress)
        found = inspect(target)
    click.echo(json.dumps(asdict(found)))


@contextmanager
def _bar(label: str, length: int) -> Iterator[Callable[[int], Any]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except WorkerError as error:
        click.echo(json.dumps({"error": str(error)}))
        sys.exit(1)


if __name__ == "__main__":
    main()
