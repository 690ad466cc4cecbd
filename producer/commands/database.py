"""What looks after the ledger's database."""

import click

from producer.commands.course import open_ledger


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
    from pathlib import Path

    from db.backup import back_up

    back_up(open_ledger().engine, Path(file))
    click.echo(f"The ledger is backed up in {file}.")
