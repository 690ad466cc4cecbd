"""``python -m tests.chaos``: inject faults for an hour, and tell what was lost and what was made twice."""

import sys
import time
from importlib.metadata import version
from pathlib import Path

import click

from producer.embedded import server_binary
from tests.chaos.campaign import Campaign, read_outcomes, version_of, write_outcomes
from tests.chaos.faults import BY_NAME, FAULTS


@click.command()
@click.option("--seed", default=1, show_default=True, help="What is drawn: moments, victims, durations.")
@click.option("--share", default=1.0, show_default=True, help="Of the faults of a whole run.")
@click.option("--server", default=None, help="The queue's server.  [default: the one Promptmill brings]")
@click.option("--fault", "names", multiple=True, type=click.Choice(list(BY_NAME)), help="Only this one.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the figures here, and go on where it ends.")
@click.option("--hurried", is_flag=True, help="Without what takes a minute.")
def main(
    seed: int, share: float, server: str | None, names: tuple[str, ...], record: Path | None, hurried: bool
) -> None:
    """Inject faults; exits with 1 when anything was lost or made twice."""
    binary, began = server or server_binary(), time.monotonic()
    facts = {"seed": seed, "share": share, "celery": version("celery"), "server": version_of(binary)}

    def save() -> None:
        if record:
            write_outcomes(record, facts, campaign.outcomes.values())

    before = read_outcomes(record) if record else {}
    campaign = Campaign(binary, seed, share, hurried, lambda line: print(line, flush=True), save, before)
    outcomes = campaign.run([BY_NAME[name] for name in names] or FAULTS)
    kills = sum(outcome.injected for outcome in outcomes if outcome.kills)
    others = sum(outcome.injected for outcome in outcomes) - kills
    lost, twice = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("lost", "twice"))
    minutes = (time.monotonic() - began) / 60
    print(f"{kills} kill -9 and {others} other faults in {minutes:.0f} min: {lost} lost, {twice} twice")
    sys.exit(0 if all(outcome.is_well for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
