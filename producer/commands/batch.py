"""What is done with a batch that is recorded."""

import click

from configs.settings import get_settings
from producer.commands.course import find_batch, follow, go_on, open_ledger, send


@click.command()
@click.argument("batch", required=False)
def watch(batch: str | None) -> None:
    """Show how far BATCH is until it is done.

    BATCH is a number or a file name; without it, the newest.
    """
    ledger = open_ledger()
    follow(ledger, find_batch(ledger, batch))


@click.command()
@click.argument("batch", required=False)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Batches listed.")
def status(batch: str | None, limit: int) -> None:
    """Count the jobs of BATCH by state, or list batches.

    BATCH is a number or a file name; without it, the newest ones are listed.
    """
    from producer.history import print_batch, print_batches

    ledger = open_ledger()
    if batch is None:
        print_batches(ledger.engine, limit)
    else:
        print_batch(ledger.engine, find_batch(ledger, batch), get_settings().images_root)


@click.command()
@click.argument("batch", required=False)
def pause(batch: str | None) -> None:
    """Start no more jobs of BATCH.

    Those in the making finish. BATCH is a number or a file name; without it, the newest.
    """
    ledger = open_ledger()
    found = find_batch(ledger, batch)
    ledger.pause_batch(found.id)
    click.echo(f"Batch {found.id} is paused; `promptmill resume {found.id}` goes on.")


@click.command()
@click.argument("batch", required=False)
def resume(batch: str | None) -> None:
    """Make what is not made yet of BATCH.

    BATCH is a number or a file name; without it, the newest. Without a queue to send it to, it is rendered here, as
    by `promptmill render`.
    """
    ledger = open_ledger()
    found = find_batch(ledger, batch)
    ledger.resume_batch(found.id)
    go_on(ledger, found)


@click.command()
@click.argument("batch")
@click.argument("priority", type=click.IntRange(0, 9))
def prioritise(batch: str, priority: int) -> None:
    """Have what is not made yet of BATCH made sooner or later.

    BATCH is a number or a file name. PRIORITY 0 is made first, 9 last; batches have 5 unless something else was said.
    """
    from producer.queue import find_url

    ledger = open_ledger()
    found = find_batch(ledger, batch)
    ledger.prioritise_batch(found.id, priority)
    click.echo(f"Batch {found.id} has priority {priority}.", err=True)
    # A message keeps the priority it was sent with, so that others are sent; what both speak of is made once.
    if url := find_url(get_settings()):
        send(url, ledger, found)


@click.command()
@click.argument("batch", required=False)
def cancel(batch: str | None) -> None:
    """Cancel the jobs of BATCH.

    Those on a device are taken off it within a second or two. BATCH is a number or a file name; without it, the newest.
    """
    ledger = open_ledger()
    found = find_batch(ledger, batch)
    count = ledger.cancel_batch(found.id)
    click.echo(
        f"{count} jobs of batch {found.id} are cancelled, and those in the making in a moment; "
        f"`promptmill retry {found.id}` makes them after all."
    )


@click.command()
@click.argument("batch", required=False)
def retry(batch: str | None) -> None:
    """Try the failed and cancelled jobs of BATCH again.

    Then it goes on as `resume` does. BATCH is a number or a file name; without it, the newest.
    """
    ledger = open_ledger()
    found = find_batch(ledger, batch)
    click.echo(f"{ledger.retry_batch(found.id)} jobs of batch {found.id} are tried again.", err=True)
    ledger.resume_batch(found.id)
    go_on(ledger, found)
