"""Who is notified."""

import click

from configs.settings import get_settings


@click.command()
@click.option("--test", is_flag=True, help="Send a message to each, and say what came of it.")
def notify(test: bool) -> None:
    """List who is told when a batch ends or stops, by the kind of address.

    The addresses are in PROMPTMILL_NOTIFY, or `notify` in promptmill.toml, and are shown nowhere.
    """
    from producer.errors import NobodyNotified, NoticeRefused
    from producer.messenger import deliver
    from producer.tidings import TEST

    addresses = get_settings().notify
    if not addresses:
        raise NobodyNotified("Nobody is notified: set PROMPTMILL_NOTIFY; docs/notifications.md tells to what.")
    refused = 0
    for name, address in zip(addresses.names(), addresses, strict=True):
        answer = deliver(address, TEST) if test else None
        said = "" if answer is None else ": took it" if answer.taken else f": {answer.said}"
        refused += bool(answer and not answer.taken)
        click.echo(name + said)
    if refused:
        raise NoticeRefused(f"{refused} of {len(addresses)} addresses took nothing: correct them in PROMPTMILL_NOTIFY.")
