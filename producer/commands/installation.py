"""What looks after an installation."""

import sys

import click

from configs.settings import get_settings


@click.command()
def doctor() -> None:
    """Check everything rendering needs.

    For each fault it says what to do.
    """
    from producer.doctor import examine

    faults = 0
    for finding in examine(get_settings()):
        faults += not finding.ok
        click.echo(f"{'ok   ' if finding.ok else 'FAULT'} {finding.name:<11} {finding.detail}")
        if finding.remedy and not finding.ok:
            click.echo(f"      {'':<11} → {finding.remedy}")
    sys.exit(1 if faults else 0)
