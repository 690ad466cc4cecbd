"""The pages and the HTTP API."""

import sys

import click

from configs.settings import get_settings
from producer.commands.course import open_ledger


def _read_password(user: str) -> str:
    """From the terminal, twice; else the first line of standard input: never an argument, which others can see."""
    if sys.stdin.isatty():
        return str(click.prompt(f"Password for {user}", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _check_token_name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (value.isprintable() and 0 < len(value.strip()) <= 64):
        raise click.BadParameter("a name of 1 to 64 characters is needed, such as that of a machine.")
    return value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 is any that is free.")
@click.option("--name", "names", multiple=True, help="What it is called behind a reverse proxy, as img.example.org.")
@click.option("--set-password", is_flag=True, help="Ask for a password and end. From now on all log in.")
@click.option("--user", default="promptmill", show_default=True, help="With --set-password: who logs in by it.")
@click.option("--new-token", callback=_check_token_name, metavar="NAME", help="Print a token for a program and end.")
@click.option("--drop-token", metavar="NAME", help="Let the token of that name in no longer, and end.")
def web(
    host: str,
    port: int,
    names: tuple[str, ...],
    set_password: bool,
    user: str,
    new_token: str | None,
    drop_token: str | None,
) -> None:
    """Serve pages to make, watch and browse images, and an HTTP API.

    Only this machine reaches them unless --host or --name says otherwise, which needs a password or a token. Workers
    run elsewhere: `promptmill worker`.

    \b
    promptmill web
    promptmill web --set-password && promptmill web --host 0.0.0.0
    promptmill web --new-token laptop
    """
    from producer.errors import ExtraMissing

    try:
        from producer.web import credentials
        from producer.web.serving import serve
    except ImportError as error:
        raise ExtraMissing(
            f"The pages need more than is installed ({error.name}): pip install 'promptmill[web]'."
        ) from error
    settings = get_settings()
    if set_password:
        credentials.set_password(settings.home, user, _read_password(user))
        click.echo(f"{user.strip()} logs in by that password from now on.", err=True)
    if new_token:
        click.echo(credentials.new_token(settings.home, new_token))
    if drop_token:
        credentials.drop_token(settings.home, drop_token)
    if not (set_password or new_token or drop_token):
        serve(settings, open_ledger(), host, port, names)
