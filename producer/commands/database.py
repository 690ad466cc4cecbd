"""What looks after the ledger's database."""

from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from configs.plain_text import plain
from configs.settings import get_settings
from producer.commands.course import open_ledger

#: Files that are each told of.
TOLD = 20

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from producer.merging import Arrival


@click.group()
def db() -> None:
    """Look after the ledger's database."""


@db.command()
def upgrade() -> None:
    """Bring the ledger's tables to this version.

    Every command does so when it first opens an older ledger.
    """
    from db.migrate import revision

    click.echo(f"The ledger is at revision {revision(open_ledger().engine)}.")


@db.command()
@click.option("--to", "target", required=True, metavar="URL", help="An empty database: sqlite:///FILE, postgresql://…")
@click.option("--while-running", is_flag=True, help="Copy although workers are alive; what they go on to do is lost.")
def copy(target: str, while_running: bool) -> None:
    """Copy the ledger into another, empty database.

    It is there as a whole or not at all, and is read back and compared. Images stay where they are.

    \b
    promptmill db copy --to postgresql://promptmill@db.example/promptmill
    """
    from db.copying import copy_ledger, refuse_workers
    from db.migrate import open_ledger as open_other

    source = open_ledger().engine
    if not while_running:
        refuse_workers(source)
    accounts = copy_ledger(source, open_other(target).engine)
    for name, account in accounts.items():
        click.echo(f"{name:<6} {account.rows:>9,} rows  {account.digest[:16]}")
    click.echo("Set PROMPTMILL_DATABASE_URL to the copy for everything that runs from now on.")


@db.command()
@click.argument("file", type=click.Path(dir_okay=False))
def backup(file: str) -> None:
    """Copy the ledger into a new SQLite file, while work goes on.

    With PostgreSQL use its own pg_dump. Images are not in it.
    """
    from db.backup import back_up

    back_up(open_ledger().engine, Path(file))
    click.echo(f"The ledger is backed up in {file}.")


@db.command()
@click.argument("other", metavar="OTHER")
@click.option("--images", type=click.Path(file_okay=False, path_type=Path), help="Where the images of OTHER lie.")
@click.option("--dry-run", is_flag=True, help="Only say what would come.")
def merge(other: str, images: Path | None, dry_run: bool) -> None:
    """Bring the batches of another ledger here, with their images.

    OTHER is a home, a SQLite file or the URL of a database; it is only read, and its workers must have ended. Batches
    and jobs get new numbers, and files are linked, or copied to another disk. A batch that is here already is passed
    over, so a merge that was stopped is given again. Ends with 1 when files are missing or damaged.

    \b
    promptmill db merge /mnt/old-machine/promptmill
    promptmill db merge --images /mnt/images postgresql://promptmill@db.example/promptmill
    """
    from db.merging import check_other
    from db.session import open_for_reading
    from producer.merging import Merge, find_place, survey

    ledger, root, place = open_ledger(), get_settings().images_root, find_place(other, images)
    engine = open_for_reading(place.url)
    check_other(engine)
    if dry_run:
        return _print_arrivals(survey(ledger.engine, engine), "to come")
    merging = Merge(ledger=ledger, other=engine, root=root, origin=place.root, tell=_first_lines())
    return _print_arrivals(merging.arrivals(), "merged")


def _first_lines() -> "Callable[[str], None]":
    """Prints what it is told, until that is too much."""
    numbers = count(1)

    def tell(line: str) -> None:
        if next(numbers) <= TOLD:
            click.echo(plain(line), err=True)

    return tell


def _print_arrivals(arrivals: "Iterable[Arrival]", outcome: str) -> None:
    """A line for each batch, and their sums. Ends with 1 when files were flawed."""
    sums: Counter[str] = Counter()
    for arrival in arrivals:
        click.echo(_line(arrival, outcome))
        sums.update(arrival.counts())
    files = f" ({sums['linked']:,} linked, {sums['copied']:,} copied, {sums['flawed']:,} missing or damaged)"
    click.echo(
        f"{sums['batches']:,} batches {outcome}, {sums['known']:,} here already: "
        f"{sums['jobs']:,} jobs, {sums['images']:,} images{files if outcome == 'merged' else ''}."
    )
    if waiting := sums["waiting"]:
        click.echo(f"{waiting:,} jobs wait, and are made here from now on: have no worker make them there.")
    if sums["flawed"]:
        raise SystemExit(1)


def _line(arrival: "Arrival", outcome: str) -> str:
    name = f"Batch {arrival.batch.id} ({plain(arrival.batch.name)})"
    if arrival.known:
        return f"{name} is here already, as batch {arrival.here}."
    here = f" as batch {arrival.here}" if arrival.here else ""
    return f"{name} {outcome}{here}: {arrival.jobs:,} jobs, {arrival.images:,} images."
