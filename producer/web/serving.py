"""Serving the pages: where, to whom, and until when."""

import contextlib
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import click
import uvicorn

from configs.settings import Settings
from db.ledger import Ledger
from producer.errors import AccessRefused, UsageError
from producer.web.access import LOOPBACK, Access
from producer.web.app import create_app
from producer.web.uploads import Uploads

#: Requests that are answered at once; more are told to come again.
MOST_AT_ONCE = 256
#: Seconds that answers in the making have when the server ends.
GRACE = 5


def open_access(settings: Settings, host: str, names: Sequence[str]) -> Access:
    """The rules for a server that listens on ``host``, and is called by ``names`` too.

    Raises:
        AccessRefused: strangers could reach it, and there is neither password nor token.
    """
    if is_loopback(host) and not names:
        return Access(settings.home)
    access = Access(settings.home, hosts=(*LOOPBACK, *names) if names else None, open_to_all=False)
    if not access.credentials:
        raise AccessRefused(
            "Others could reach these pages, and nobody would have to log in: run `promptmill web --set-password`, or "
            "`promptmill web --new-token NAME` for programs, and then this again."
        )
    return access


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def serve(settings: Settings, ledger: Ledger, host: str, port: int, names: Sequence[str]) -> None:
    """Answer until Ctrl-C or SIGTERM. names: what it is called by behind a reverse proxy, which is believed then.

    Raises:
        AccessRefused: see `open_access`.
        UsageError: the port is taken, or the address is none of this machine.
    """
    access = open_access(settings, host, names)
    listener = _listen(host, port)
    Uploads(settings).tidy(ledger.engine)
    config = uvicorn.Config(
        create_app(settings, ledger, access),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(names),
        limit_concurrency=MOST_AT_ONCE,
        timeout_graceful_shutdown=GRACE,
    )
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"Promptmill is at http://{shown}:{listener.getsockname()[1]}; Ctrl-C ends it.", err=True)
    if not is_loopback(host):
        click.echo("Warning: without TLS before it, others can read passwords on their way: see docs/web.md.", err=True)
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(listener):
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host}, port {port}, cannot be listened on: {reason}; name others by --host, --port."
        ) from error
