"""The command `promptmill`: reads the command line, calls, prints."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from configs.errors import ConfigError
from configs.settings import PREFIX, get_settings, read_preset
from db.errors import LedgerError
from producer.child import PYTHON
from producer.errors import InvalidPromptFile, ProducerError
from producer.interrupts import raise_on_sigterm
from producer.options import PRESET, Tag, submission_options, worker_options

if TYPE_CHECKING:
    from sqlalchemy import Row

    from db.ledger import Ledger
    from producer.progress import Counts

#: Libraries whose errors end a command with one sentence, by the package they come from: importing them costs time.
OUTSIDE = {"sqlalchemy": "The ledger", "redis": "The queue", "kombu": "The queue"}


class Commands(click.Group):
    """Turns errors into one sentence and an exit code, for all commands in one place."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidPromptFile as error:
            click.echo(str(error), err=True)
            return _refuse(ctx, "nothing was queued; correct the file and try again.", error.exit_code)
        except (ProducerError, LedgerError, ConfigError) as error:
            return _refuse(ctx, str(error), getattr(error, "exit_code", 1))
        except Exception as error:
            what = OUTSIDE.get(type(error).__module__.partition(".")[0])
            if what is None:
                raise
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            return _refuse(ctx, f"{what} failed: {reason}. `promptmill doctor` looks for the reason.", 1)


def _refuse(ctx: click.Context, message: str, exit_code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    ctx.exit(exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="promptmill")
def cli() -> None:
    """Turn files of prompts into images in bulk: every image exactly once, with a searchable history.

    \b
    promptmill render prompts.csv        make all images of a file here and now
    promptmill submit prompts.csv        queue them for workers that run elsewhere
    promptmill history --seed 42 castle  find what was made

    Settings are environment variables PROMPTMILL_* or stand in promptmill.toml.
    """


@cli.command()
@submission_options
@worker_options
def render(file: str, vram: int | None, **flags: Any) -> None:
    """Make all images of FILE on this machine.

    FILE holds prompts as CSV, TSV, plain text or JSON lines; - is standard input. Every row is checked first. The
    queue, where none is configured, and a worker run for as long as it takes. Ctrl-C finishes the images in the
    making and stops; `promptmill resume` goes on from there.

    \b
    promptmill render prompts.csv
    promptmill render prompts.csv --steps 30 --sampler "Euler a" --num-images 4
    """
    from producer.local import LocalRendering
    from producer.submit import check, record

    settings, ledger = get_settings(), _ledger()
    _equip_worker(flags["preset"], vram)
    submission = check(file, settings, **flags)
    with LocalRendering(settings, ledger, log=settings.home / "logs" / "worker.log") as rendering:
        batch = record(submission, ledger)
        _announce(batch)
        counts = rendering.make(batch)
    _conclude(batch, counts)


@cli.command()
@submission_options
@click.option("--watch", is_flag=True, help="Show progress until the batch is done.")
def submit(file: str, watch: bool, **flags: Any) -> None:
    """Send all images of FILE to the workers.

    FILE is as for `render`. Without a queue that runs it is only recorded, for a later `worker` or `resume`.

    \b
    promptmill submit prompts.csv --priority 2 --watch
    """
    from producer.queue import find_url
    from producer.submit import check, record

    settings, ledger = get_settings(), _ledger()
    batch = record(check(file, settings, **flags), ledger)
    _announce(batch)
    url = find_url(settings)
    if url is None:
        click.echo(f"Recorded; it is sent when `promptmill worker` or `promptmill resume {batch.id}` starts.", err=True)
        return
    _send(url, ledger, batch)
    if watch:
        _watch(ledger, batch)


@cli.command()
@click.option("--name", help="Recorded with every image.  [default: worker-PID@HOST]")
@click.option("--concurrency", type=click.IntRange(1, 64), help="Most chunks in work at once.  [default: 16]")
@click.option("--preset", help=PRESET)
@worker_options
def worker(name: str | None, concurrency: int | None, preset: str | None, vram: int | None) -> None:
    """Take jobs from the queue and make their images.

    Ctrl-C or SIGTERM finishes the images in the making and stops; a second one stops at once. Without
    PROMPTMILL_BROKER_URL it runs a queue of its own, which `promptmill submit` on this machine finds.
    """
    settings = get_settings()
    _equip_worker(preset, vram)
    named = {"--name": name, "--concurrency": concurrency}
    options = [word for flag, value in named.items() if value is not None for word in (flag, str(value))]
    if settings.broker_url:
        os.execv(PYTHON[0], [*PYTHON, "-m", "worker", *options])
    from producer.local import LocalRendering

    with LocalRendering(settings, _ledger(), options=options) as rendering:
        rendering.serve()


@cli.command()
@click.argument("batch", required=False)
def watch(batch: str | None) -> None:
    """Show how far BATCH is until it is done.

    BATCH is a number or a file name; without it, the newest.
    """
    ledger = _ledger()
    _watch(ledger, _find(ledger, batch))


@cli.command()
@click.argument("batch", required=False)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Batches listed.")
def status(batch: str | None, limit: int) -> None:
    """Count the jobs of BATCH by state, or list batches.

    BATCH is a number or a file name; without it, the newest ones are listed.
    """
    from producer.history import print_batch, print_batches

    ledger = _ledger()
    if batch is None:
        print_batches(ledger.engine, limit)
    else:
        print_batch(ledger.engine, _find(ledger, batch), get_settings().images_root)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--batch", help="Number or file name of a batch.")
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]))
@click.option("--seed", type=int)
@click.option("--steps", type=int)
@click.option("--scale", type=float)
@click.option("--sampler", help="By any of its names.")
@click.option("--flagged", is_flag=True, help="Only images that are probably no pictures: all of one colour.")
@click.option("--tag", "tags", type=Tag(), multiple=True, help="A column of the prompt file that is no parameter.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Jobs listed; 0 is all.")
@click.option("--before", type=int, metavar="JOB", help="Only jobs older than this one: the next page.")
@click.option("--json", "form", flag_value="json", help="One JSON object a line, with every field.")
@click.option("--csv", "form", flag_value="csv", help="CSV with every field.")
def history(words: tuple[str, ...], limit: int, before: int | None, form: str | None, **wanted: Any) -> None:
    """List jobs and their images, newest first.

    Of several WORDS all must be in the prompt.

    \b
    promptmill history castle --seed 42
    promptmill history --batch prompts.csv --state failed
    promptmill history --tag category=Animals --limit 0 --csv > animals.csv
    """
    from producer.history import find_jobs, print_history

    jobs = find_jobs(_ledger().engine, words, limit=limit or None, before=before, **wanted)
    print_history(jobs, get_settings().images_root, form=form or "table")


@cli.command()
@click.argument("target", metavar="JOB|IMAGE")
def show(target: str) -> None:
    """Show everything about a job or an image file.

    A job goes by its number. Of an image file it is shown what is written in it; no ledger is needed.
    """
    from db import queries
    from producer.show import print_image, print_job

    if target.isdecimal():
        print_job(queries.find_job(_ledger().engine, int(target)), get_settings().images_root)
    else:
        print_image(Path(target))


@cli.command()
@click.argument("batch", required=False)
def pause(batch: str | None) -> None:
    """Start no more jobs of BATCH.

    Those in the making finish. BATCH is a number or a file name; without it, the newest.
    """
    ledger = _ledger()
    found = _find(ledger, batch)
    ledger.pause_batch(found.id)
    click.echo(f"Batch {found.id} is paused; `promptmill resume {found.id}` goes on.")


@cli.command()
@click.argument("batch", required=False)
def resume(batch: str | None) -> None:
    """Make what is not made yet of BATCH.

    BATCH is a number or a file name; without it, the newest. Without a queue to send it to, it is rendered here, as
    by `promptmill render`.
    """
    ledger = _ledger()
    found = _find(ledger, batch)
    ledger.resume_batch(found.id)
    _go_on(ledger, found)


@cli.command()
@click.argument("batch", required=False)
def cancel(batch: str | None) -> None:
    """Cancel the queued jobs of BATCH.

    Those in the making finish. BATCH is a number or a file name; without it, the newest.
    """
    ledger = _ledger()
    found = _find(ledger, batch)
    count = ledger.cancel_batch(found.id)
    click.echo(f"{count} jobs of batch {found.id} are cancelled; `promptmill retry {found.id}` makes them after all.")


@cli.command()
@click.argument("batch", required=False)
def retry(batch: str | None) -> None:
    """Try the failed and cancelled jobs of BATCH again.

    Then it goes on as `resume` does. BATCH is a number or a file name; without it, the newest.
    """
    ledger = _ledger()
    found = _find(ledger, batch)
    click.echo(f"{ledger.retry_batch(found.id)} jobs of batch {found.id} are tried again.", err=True)
    ledger.resume_batch(found.id)
    _go_on(ledger, found)


@cli.command()
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


@cli.command()
@click.option("--model", help="The checkpoint.  [default: the settings']")
@click.option("--images", default=64, show_default=True, type=click.IntRange(8), help="Images of the mixed queue.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--preset", help=PRESET)
@worker_options
def bench(model: str | None, images: int, as_json: bool, preset: str | None, vram: int | None) -> None:
    """Measure images a second on this machine.

    The engine makes a queue of images mixed in sampler, steps and guidance; diffusers' own pipeline makes some of them
    one at a time, and others at its best batch. Nothing is saved.
    """
    from subprocess import run

    from producer.child import PYTHON

    _equip_worker(preset, vram)
    flags = [*(["--model", model] if model else []), "--images", str(images), *(["--json"] if as_json else [])]
    sys.exit(run([*PYTHON, "-m", "worker.bench", *flags], check=False).returncode)


@cli.group()
def db() -> None:
    """Look after the ledger's database."""


@db.command()
def upgrade() -> None:
    """Bring the ledger's tables to this version.

    Every command does so when it first opens an older ledger.
    """
    from db.migrate import revision

    click.echo(f"The ledger is at revision {revision(_ledger().engine)}.")


def main() -> None:
    """Entry point."""
    raise_on_sigterm()
    cli(prog_name="promptmill")


def _ledger() -> "Ledger":
    from db.migrate import open_ledger

    return open_ledger(get_settings().ledger_url)


def _find(ledger: "Ledger", batch: str | None) -> "Row[Any]":
    from db.queries import find_batch

    return find_batch(ledger.engine, batch)


def _equip_worker(preset: str | None, vram: int | None) -> None:
    """Let the worker we start find the preset's settings, and the flags that go over them, in its environment."""
    equipment = dict(read_preset(preset).get("worker", {})) if preset else {}
    if vram is not None:
        equipment["vram"] = vram
    for name, value in equipment.items():
        os.environ[f"{PREFIX}{name.upper()}"] = str(value)


def _announce(batch: "Row[Any]") -> None:
    click.echo(f"Batch {batch.id}: {batch.total} images of {batch.name}.", err=True)


def _send(url: str, ledger: "Ledger", batch: "Row[Any]") -> None:
    from producer.queue import Queue

    sent = Queue(url).send_batch(ledger, batch.id)
    click.echo(f"{sent} jobs sent; `promptmill watch {batch.id}` shows how far they are.", err=True)


def _go_on(ledger: "Ledger", batch: "Row[Any]") -> None:
    """Send what is queued, or render it here where there is no queue."""
    from producer.local import LocalRendering
    from producer.progress import Counts
    from producer.queue import find_url

    settings = get_settings()
    counts = Counts.read(ledger.engine, batch.id)
    if not counts.left:
        return _conclude(batch, counts)
    if url := find_url(settings):
        return _send(url, ledger, batch)
    with LocalRendering(settings, ledger, log=settings.home / "logs" / "worker.log") as rendering:
        counts = rendering.make(batch)
    return _conclude(batch, counts)


def _watch(ledger: "Ledger", batch: "Row[Any]") -> None:
    from producer.progress import watch

    _conclude(batch, watch(ledger.engine, batch))


def _conclude(batch: "Row[Any]", counts: "Counts") -> None:
    """Say how it ended and where the images are; exits with 1 unless all succeeded."""
    if counts.left:
        click.echo(f"Stopped; `promptmill resume {batch.id}` goes on from there.", err=True)
    if counts.failed or counts.cancelled:
        how = f"{counts.failed} failed, {counts.cancelled} cancelled"
        click.echo(f"{how}; `promptmill history --batch {batch.id} --state failed` says why.", err=True)
    click.echo(f"{counts.succeeded} images in {get_settings().images_root / batch.folder}")
    sys.exit(0 if counts.all_succeeded else 1)


if __name__ == "__main__":
    main()
