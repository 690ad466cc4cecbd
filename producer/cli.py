"""The command `promptmill`: its commands, and what an error of any of them says. They are in `producer.commands`."""

import sys
from io import TextIOWrapper
from typing import Any, cast

import click

from configs.errors import ConfigError
from configs.plain_text import plain
from configs.redaction import redact
from db.errors import LedgerError
from producer.commands import (
    batch,
    database,
    export,
    fsck,
    history,
    installation,
    job,
    models,
    notify,
    originals,
    prompt_file,
    prune,
    report,
    reproduce,
    rerun,
    sheet,
    web,
    worker,
)
from producer.errors import InvalidPromptFile, ProducerError, tell_file, tell_foreign
from producer.interrupts import raise_on_sigterm

#: Every command, and what it is about.
COMMANDS: tuple[click.Command, ...] = (
    prompt_file.render,
    prompt_file.submit,
    originals.txt2img,
    originals.img2img,
    originals.inpaint,
    originals.knn2img,
    batch.status,
    batch.watch,
    batch.pause,
    batch.resume,
    batch.prioritise,
    batch.cancel,
    batch.retry,
    history.history,
    job.show,
    rerun.rerun,
    reproduce.reproduce,
    export.export,
    report.report,
    sheet.sheet,
    models.models,
    worker.worker,
    worker.workers,
    worker.bench,
    web.web,
    notify.notify,
    installation.doctor,
    fsck.fsck,
    database.db,
)


class Commands(click.Group):
    """Turns errors into one sentence and an exit code, for all commands in one place."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command and ctx.params.get("server") and not ctx.resilient_parsing:
            from producer.commands.remote import made_remote

            command = made_remote(command)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidPromptFile as error:
            _tell(str(error))
            return _refuse(ctx, "nothing was queued; correct the file and try again.", error.exit_code)
        except (ProducerError, LedgerError, ConfigError) as error:
            return _refuse(ctx, str(error), getattr(error, "exit_code", 1))
        except Exception as error:
            if told := tell_foreign(error) or tell_file(error):
                return _refuse(ctx, told, 1)
            raise


def _tell(message: str) -> None:
    """Print a message, which may hold what a stranger wrote into a file."""
    click.echo("\n".join(map(plain, redact(message).split("\n"))), err=True)


def _refuse(ctx: click.Context, message: str, exit_code: int) -> None:
    _tell(f"Error: {message}")
    ctx.exit(exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--server", metavar="URL", envvar="PROMPTMILL_SERVER", help="Ask the `promptmill web` at URL instead.")
@click.version_option(package_name="promptmill")
def cli(server: str | None) -> None:
    """Turn files of prompts into images in bulk: every image exactly once, with a searchable history.

    \b
    promptmill render prompts.csv        make all images of a file here and now
    promptmill submit prompts.csv        queue them for workers that run elsewhere
    promptmill history --seed 42 castle  find what was made

    Settings are environment variables PROMPTMILL_* or stand in promptmill.toml.
    """


history.history.add_command(prune.prune)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point."""
    raise_on_sigterm()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no emoji gets their numbers, and no traceback.
        cast(TextIOWrapper, stream).reconfigure(errors="backslashreplace")
    cli(prog_name="promptmill")


if __name__ == "__main__":
    main()
