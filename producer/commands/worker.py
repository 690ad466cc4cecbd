"""What runs the GPU stack, in processes of its own."""

import os
import sys

import click

from configs.settings import get_settings
from producer.child import PYTHON
from producer.commands.course import open_ledger
from producer.options import PRESET, equip_worker, worker_options


@click.command()
@click.option("--name", help="Recorded with every image.  [default: worker-PID@HOST]")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Most chunks in work at once.  [default: 16]")
@click.option("--preset", help=PRESET)
@worker_options
def worker(name: str | None, concurrency: int | None, preset: str | None, vram: int | None) -> None:
    """Take jobs from the queue and make their images.

    Ctrl-C or SIGTERM finishes the images in the making and stops; a second one stops at once. Without
    PROMPTMILL_BROKER_URL it runs a queue of its own, which `promptmill submit` on this machine finds.
    """
    settings = get_settings()
    equip_worker(preset, vram)
    named = {"--name": name, "--concurrency": concurrency}
    options = [word for flag, value in named.items() if value is not None for word in (flag, str(value))]
    if settings.broker_url:
        os.execv(PYTHON[0], [*PYTHON, "-m", "worker", *options])
    from producer.local import LocalRendering

    with LocalRendering(settings, open_ledger(), options=options) as rendering:
        rendering.serve()


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
