"""Images made again, to see whether they come out the same."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from configs.plain_text import plain
from configs.settings import get_settings
from producer.commands.course import open_ledger
from producer.options import PRESET, equip_worker, worker_options

if TYPE_CHECKING:
    from db.ledger import Ledger
    from producer.reproduce import Target, Verdict


@click.command()
@click.argument("images", nargs=-1, metavar="[JOB|IMAGE]...")
@click.option("--query", help="All images that a query finds, as for `promptmill history`.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most of --query.")
@click.option("--exact", is_flag=True, help="Be content with nothing but the same pixels.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for the new pictures.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an image.")
@click.option("--preset", help=PRESET)
@worker_options
def reproduce(
    images: tuple[str, ...], query: str | None, limit: int, exact: bool, keep: Path | None, as_json: bool,
    preset: str | None, vram: int | None,
) -> None:  # fmt: skip
    """Make images again as they were made, and say whether they are the same.

    An image goes by the number of its job, or by its file. It is made in calls of the recorded shape, here and now,
    and nothing of it is recorded. The verdict is identical, near, different or impossible, with what is not as it was:
    docs/reproduce.md. Exits with 1 unless all are identical or near.

    \b
    promptmill reproduce 1234
    promptmill reproduce --query 'batch:prompts.csv' --exact
    """
    from producer.reproduce import reproduce, summary

    if not images and query is None:
        raise click.UsageError("Say which images are to be made again: numbers of jobs, files, or --query.")
    equip_worker(preset, vram)
    targets = list(_targets(open_ledger(), images, query, limit))
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    verdicts = []
    for verdict in reproduce(targets, keep):
        verdicts.append(verdict)
        _print(verdict, as_json)
    if not as_json:
        print(summary(verdicts))
    enough = {"identical"} if exact else {"identical", "near"}
    sys.exit(0 if {verdict.word for verdict in verdicts} <= enough else 1)


def _targets(ledger: "Ledger", images: tuple[str, ...], query: str | None, limit: int) -> "Iterator[Target]":
    from db.search import Query, term
    from producer.history import find_jobs, wanted
    from producer.reproduce import target_of_file, target_of_id, target_of_job

    root = get_settings().images_root
    for image in images:
        yield target_of_id(ledger.engine, image, root) if image.isdecimal() else target_of_file(Path(image))
    if query is not None:
        made = wanted(ledger.engine, (query,)) + Query((term("state", "succeeded"),))
        for job in find_jobs(ledger.engine, made, limit=limit):
            yield target_of_job(job, root)


def _print(verdict: "Verdict", as_json: bool) -> None:
    from producer.table import print_json_lines

    if as_json:
        return print_json_lines([verdict._asdict()])
    near = "" if verdict.psnr is None else f" ({verdict.psnr:.1f} dB)"
    why = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    print(plain(f"{verdict.name}  {verdict.word}{near}{why}"), flush=True)
