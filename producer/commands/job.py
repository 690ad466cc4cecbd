"""What was asked for, and what became of it."""

from pathlib import Path

import click

from configs.settings import get_settings
from producer.commands.course import open_ledger


@click.command()
@click.argument("target", metavar="JOB|IMAGE")
def show(target: str) -> None:
    """Show everything about a job or an image file.

    A job goes by its number. Of an image file it is shown what is written in it, by Promptmill or by another program:
    A1111 and its kin, ComfyUI, InvokeAI, SwarmUI, Fooocus, NovelAI, Easy Diffusion, Draw Things. No ledger is needed.
    """
    from db import queries
    from producer.show import print_image, print_job

    if target.isdecimal():
        print_job(queries.find_job(open_ledger().engine, queries.id_of(target) or 0), get_settings().images_root)
    else:
        print_image(Path(target))
