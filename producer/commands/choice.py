"""Which rows of a file become jobs: all, what is not there yet, or nothing before it is known what it takes."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from producer.commands.course import warn
from producer.errors import DiskTooSmall

if TYPE_CHECKING:
    from sqlalchemy import Row

    from configs.settings import Settings
    from db.ledger import Ledger
    from producer.delta import Delta
    from producer.plan import Plan
    from producer.submit import Submission

F = TypeVar("F", bound=Callable[..., Any])


class Asks(NamedTuple):
    """What is asked for beside the batch itself."""

    changed: bool
    once: bool
    plan: bool
    as_json: bool
    yes: bool


class Choice(NamedTuple):
    """What is to be recorded."""

    submission: "Submission"
    delta: "Delta | None"

    def record(self, ledger: "Ledger", settings: "Settings") -> "Row[Any]":
        from producer.submit import record

        batch = record(self.submission, ledger)
        _remember(self.delta, ledger, settings)
        return batch


def choice_options(command: F) -> F:
    """What can be said about which rows become jobs."""
    options = (
        click.option("--changed", is_flag=True, help="Queue only what has no image yet, and list what differs."),
        click.option("--once", is_flag=True, help="Of rows that ask for the same, make the first alone."),
        click.option("--plan", is_flag=True, help="Say what it takes, and queue nothing."),
        click.option("--json", "as_json", is_flag=True, help="With --changed or --plan: as JSON."),
        click.option("--yes", is_flag=True, help="Go on even if the images do not fit on the disk."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def choose(file: str, settings: "Settings", ledger: "Ledger", flags: dict[str, Any], workers: int | None) -> Choice:
    """Check a file and choose of its rows. Ends the command where nothing is to be queued.

    Raises DiskTooSmall where nobody can be asked whether to go on.
    """
    from producer.submit import check

    asks = Asks(*(flags.pop(name) for name in Asks._fields))
    submission, delta = check(file, settings, **flags), None
    if not asks.once:
        warn(submission)
    if asks.changed:
        delta = _find_delta(submission, ledger, settings, asks)
        submission = delta.submission
    elif asks.once:
        submission = _drop_repeats(submission)
    if asks.plan or (delta and not submission.batch.total):
        _end(submission, delta, ledger, settings, asks, workers)
    _refuse_overflow(submission, ledger, settings, asks, workers)
    if delta and asks.as_json:
        _print_json(delta, None)
    return Choice(submission, delta)


def _find_delta(submission: "Submission", ledger: "Ledger", settings: "Settings", asks: Asks) -> "Delta":
    from producer.delta import compare
    from producer.edits import tell

    delta = compare(submission, ledger, settings, once=asks.once)
    for line in () if asks.as_json else tell(delta, ledger.engine):
        click.echo(line)
    return delta


def _drop_repeats(submission: "Submission") -> "Submission":
    from producer.asking import asked_images, choose_once, narrow

    narrowed = narrow(submission, choose_once(asked_images(submission)))
    if left_out := submission.batch.total - narrowed.batch.total:
        click.echo(f"{left_out} images are left out, since earlier rows ask for them.", err=True)
    return narrowed


def _end(
    submission: "Submission",
    delta: "Delta | None",
    ledger: "Ledger",
    settings: "Settings",
    asks: Asks,
    workers: int | None,
) -> None:
    """Say what there is to say, and queue nothing."""
    from producer.plan import make_plan

    plan = make_plan(submission, ledger.engine, settings, workers) if asks.plan else None
    if asks.as_json:
        _print_json(delta, plan)
    else:
        for line in plan.lines() if plan else ("Nothing is queued: all of it is there, or will be.",):
            click.echo(line)
    if not plan:
        _remember(delta, ledger, settings)
    sys.exit(0)


def _refuse_overflow(
    submission: "Submission", ledger: "Ledger", settings: "Settings", asks: Asks, workers: int | None
) -> None:
    """Ask before a run whose images do not fit on the disk."""
    from producer.plan import fits_easily, make_plan

    if asks.yes or fits_easily(submission, ledger.engine, settings):
        return
    plan = make_plan(submission, ledger.engine, settings, workers)
    if plan.fits:
        return
    if not sys.stdin.isatty():
        raise DiskTooSmall(f"{plan.shortage()}; make room, or go on all the same with --yes.")
    click.confirm(f"{plan.shortage()}. Go on?", abort=True, err=True)


def _remember(delta: "Delta | None", ledger: "Ledger", settings: "Settings") -> None:
    from producer.delta import remember

    if delta:
        remember(delta, ledger, settings)


def _print_json(delta: "Delta | None", plan: "Plan | None") -> None:
    import json
    from dataclasses import asdict

    from producer.edits import summarise

    found = {**(summarise(delta) if delta else {}), **({"plan": asdict(plan)} if plan else {})}
    click.echo(json.dumps(found))
