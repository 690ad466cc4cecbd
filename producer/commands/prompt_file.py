"""What begins with a file of prompts."""

from typing import Any

import click

from configs.settings import get_settings
from producer.commands.choice import choice_options, choose
from producer.commands.course import announce, conclude, follow, open_ledger, send
from producer.options import equip_worker, fleet_options, submission_options, worker_options


@click.command()
@submission_options
@choice_options
@worker_options
@fleet_options
def render(file: str, vram: int | None, gpus: tuple[str, ...], workers: int | None, **flags: Any) -> None:
    """Make all images of FILE on this machine.

    FILE holds prompts as CSV, TSV, plain text or JSON lines; - is standard input. Every row is checked first. The
    queue, where none is configured, and a worker run for as long as it takes. Ctrl-C finishes the images in the
    making and stops; `promptmill resume` goes on from there.

    \b
    promptmill render prompts.csv
    promptmill render prompts.csv --steps 30 --sampler "Euler a" --num-images 4
    """
    from producer.local import LocalRendering

    settings, ledger = get_settings(), open_ledger()
    equip_worker(flags["preset"], vram)
    choice = choose(file, settings, ledger, flags, workers)
    log = settings.home / "logs" / "worker.log"
    with LocalRendering(settings, ledger, log=log, gpus=gpus, workers=workers) as rendering:
        batch = choice.record(ledger, settings)
        announce(batch)
        counts = rendering.make(batch)
    conclude(ledger, batch, counts)


@click.command()
@submission_options
@choice_options
@click.option("--watch", is_flag=True, help="Show progress until the batch is done.")
def submit(file: str, watch: bool, **flags: Any) -> None:
    """Send all images of FILE to the workers.

    FILE is as for `render`. Without a queue that runs it is only recorded, for a later `worker` or `resume`.

    \b
    promptmill submit prompts.csv --priority 2 --watch
    promptmill submit prompts.csv --changed
    promptmill submit prompts.csv --plan
    """
    from producer.queue import find_url

    settings, ledger = get_settings(), open_ledger()
    choice = choose(file, settings, ledger, flags, None)
    batch = choice.record(ledger, settings)
    announce(batch)
    url = find_url(settings)
    if url is None:
        click.echo(f"Recorded; it is sent when `promptmill worker` or `promptmill resume {batch.id}` starts.", err=True)
        return
    send(url, ledger, batch)
    if watch:
        follow(ledger, batch)
