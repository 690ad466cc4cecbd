"""What runs the GPU stack, in processes of its own."""

import re
import sys
from typing import Any

import click

from configs.settings import get_settings
from producer.child import PYTHON
from producer.commands.course import open_ledger
from producer.options import PRESET, equip_worker, fleet_options, worker_options


def _check_name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[\w.-]{1,64}(@[\w.-]{1,64})?", value):
        raise click.BadParameter(f"{value!r} is no name; letters, digits and . _ - make one, and @HOST may follow.")
    return value


@click.command()
@fleet_options
@click.option("--name", callback=_check_name, help="What the names of the workers begin with.")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Most chunks in work at once.  [default: 16]")
@click.option("--preset", help=PRESET)
@worker_options
def worker(concurrency: int | None, preset: str | None, vram: int | None, **fleet: Any) -> None:
    """Take jobs from the queue and make their images, with a worker process for each GPU.

    One that dies or hangs is replaced. Ctrl-C or SIGTERM finishes the images in the making and stops; a second one
    stops at once. Without PROMPTMILL_BROKER_URL it runs a queue of its own, which `promptmill submit` on this machine
    finds.

    \b
    promptmill worker
    promptmill worker --gpus 0,1
    """
    from producer.local import LocalRendering

    equip_worker(preset, vram)
    options = ["--concurrency", str(concurrency)] if concurrency else []
    with LocalRendering(get_settings(), open_ledger(), options=options, **fleet) as rendering:
        rendering.serve()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every field.")
def workers(as_json: bool) -> None:
    """List the workers: where they are, what they do, how fast.

    A worker that fell silent is dead, or its host is.
    """
    from producer.roster import print_workers

    print_workers(open_ledger().engine, get_settings().lease_seconds, as_json=as_json)


@click.command()
@click.option("--model", help="The checkpoint.  [default: the settings']")
@click.option("--images", default=64, show_default=True, type=click.IntRange(8), help="Images of the mixed queue.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--preset", help=PRESET)
@worker_options
def bench(model: str | None, images: int, as_json: bool, preset: str | None, vram: int | None) -> None:
    """Measure images a second on this machine.

    The engine makes a queue of images mixed in sampler, steps and guidance; diffusers' own pipeline makes some of them
    one at a time, and others at its best batch. Nothing is saved.
    """
    from subprocess import run

    equip_worker(preset, vram)
    flags = [*(["--model", model] if model else []), "--images", str(images), *(["--json"] if as_json else [])]
    sys.exit(run([*PYTHON, "-m", "worker.bench", *flags], check=False).returncode)
