"""``python -m worker``: one worker process in the foreground."""

import logging
import os
import re
import socket
import sys

import click

from configs.errors import ConfigError
from configs.settings import get_settings
from db.black_box import NAME, BlackBox, box_path
from db.errors import LedgerError
from db.migrate import open_ledger
from db.session import SMALL_CACHE
from worker.errors import WorkerError
from worker.log_lines import start_log

#: One line a record; workers may share a log. The thread says whether it is the engine's or a chunk's.
LOG_FORMAT = "%(asctime)s %(levelname)-7s {worker} %(threadName)s %(name)s: %(message)s"


@click.command()
@click.option("--name", default=f"worker-{os.getpid()}@{socket.gethostname()}", help="Recorded with every image.")
@click.option(
    "--concurrency", default=16, show_default=True, type=click.IntRange(1, 64), help="Most chunks in work at once."
)
def main(name: str, concurrency: int) -> None:
    """Take chunks from the queue at PROMPTMILL_BROKER_URL and render them until told to stop."""
    if not re.fullmatch(NAME, name):
        raise click.BadParameter(f"{name!r} is no name; letters, digits and . _ - @ make one.")
    start_log(LOG_FORMAT.format(worker=name))
    # Two lines for every message say nothing that the ledger does not know.
    logging.getLogger("celery").setLevel(logging.WARNING)
    try:
        settings = get_settings()
        if settings.broker_url is None:
            raise ConfigError("PROMPTMILL_BROKER_URL is not set; `promptmill worker` starts a queue of its own.")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        ledger = open_ledger(settings.ledger_url, SMALL_CACHE)
        with BlackBox(box_path(settings.home, name)) as box:
            # Late, since it takes seconds: a wrong setting is reported at once.
            from worker.app import Worker
            from worker.renderers import open_engine

            worker = Worker(settings, ledger, box, open_engine, name=name, broker_url=settings.broker_url)
            code = worker.run(concurrency)
        if code:
            logging.shutdown()
            # Not sys.exit: when the device is lost, its libraries may hang or abort at the end of Python.
            os._exit(code)
    except (ConfigError, LedgerError, WorkerError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
