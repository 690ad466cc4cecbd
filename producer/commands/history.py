"""`promptmill history`: what was asked for, by a query, and what became of it."""

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from configs.parameters import MAX_SEED
from configs.plain_text import plain
from configs.settings import get_settings
from producer.commands.course import open_ledger
from producer.options import Tag

#: `db.search.ORDERS`, which is not imported here: commands must start fast.
SORTS = ("id", "finished", "seed", "steps", "scale", "took", "bytes")


#: Before an argument that would be taken for options; no argument of a process can have it.
TERM = "\0"


def shield(args: list[str]) -> list[str]:
    """Arguments with what is excluded, as ``-dog``, told apart from options: those of one dash have one letter."""
    end = args.index("--") if "--" in args else len(args)
    return [TERM + arg if arg[:1] == "-" != arg[1:2] and len(arg) > 2 else arg for arg in args[:end]] + args[end:]


class Terms(click.ParamType):  # type: ignore[type-arg]
    """Words and fields of the query language, which completes the fields."""

    name = "query"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        return str(value).removeprefix(TERM)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        from producer.query import FIELDS, FLAGS, STATES

        minus, bare = ("-", incomplete[1:]) if incomplete.startswith("-") else ("", incomplete)
        values = {"state:": STATES, "flagged:": FLAGS}
        known = [f"{name}:" for name in FIELDS] + [head + value for head, ends in values.items() for value in ends]
        return [CompletionItem(minus + text) for text in known if text.startswith(bare)]


class QueryGroup(click.Group):
    """A group whose arguments are a query, unless the first one is the name of a command."""

    allow_interspersed_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in self.commands:
            ctx.args = args
            return args
        return click.Command.parse_args(self, ctx, shield(args))

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.args:
            return click.Command.invoke(self, ctx)
        name, *rest = ctx.args
        command = self.commands[name]
        ctx.invoked_subcommand = name
        with command.make_context(name, rest, parent=ctx) as inner:
            return command.invoke(inner)


class QueryCommand(click.Command):
    """A command whose arguments are a query."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, shield(args))


@click.group(cls=QueryGroup, invoke_without_command=True, subcommand_metavar="")
@click.argument("query", nargs=-1, type=Terms())
@click.option("--batch", help="Number or file name of a batch.")
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]))
@click.option("--seed", type=click.IntRange(0, MAX_SEED))
@click.option("--steps", type=click.IntRange(1, 1000))
@click.option("--scale", type=float)
@click.option("--sampler", help="By any of its names.")
@click.option("--flagged", is_flag=True, help="Only images to look at: of one colour, or unsafe.")
@click.option("--tag", "tags", type=Tag(), multiple=True, help="A column of the prompt file that is no parameter.")
@click.option("--sort", type=click.Choice(SORTS), default="id", show_default=True, help="The largest come first.")
@click.option("--ascending", is_flag=True, help="The smallest come first.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Jobs listed; 0 is all.")
@click.option("--after", metavar="CURSOR", help="The next page: what the page before said.")
@click.option("--before", type=click.IntRange(1, MAX_SEED), metavar="JOB", help="Only older jobs.")
@click.option("--table", "form", flag_value="table", help="Columns for people.  [default]")
@click.option("--json", "form", flag_value="json", help="One JSON object a line, with every field.")
@click.option("--csv", "form", flag_value="csv", help="CSV with every field.")
@click.option("--paths", "form", flag_value="paths", help="The files of the images, one a line.")
@click.option("-0", "--null", is_flag=True, help="With --paths: end each with a NUL, for `xargs -0`.")
@click.option("--safe", is_flag=True, help="In CSV, a ' before every text that a spreadsheet would take for a formula.")
def history(**given: Any) -> None:
    """List jobs and their images, newest first.

    QUERY is words of the prompts and fields, which must all hold; docs/history.md has the language. Behind `--`,
    everything is a query, the name of a command too.

    \b
    promptmill history castle -dog 'steps:20..30' 'scale>7'
    promptmill history --batch prompts.csv --state failed
    promptmill history tag.category:Animals --limit 0 --csv > animals.csv
    promptmill history flagged:yes --limit 0 --paths -0 | xargs -0 rm
    """
    from producer.history import find_jobs, print_history, print_next, read_place, wanted

    form = given.pop("form") or "table"
    limit, sort, ascending, after = (given.pop(name) for name in ("limit", "sort", "ascending", "after"))
    null, safe = given.pop("null"), given.pop("safe")
    if safe and form != "csv":
        raise click.UsageError("--safe says how --csv is written; give both.")
    if null and form != "paths":
        raise click.UsageError("--null says how --paths is written; give both.")
    engine = open_ledger().engine
    place = read_place(after, sort) if after else None
    query = wanted(engine, **given)
    jobs = list(find_jobs(engine, query, limit=limit, after=place, sort=sort, ascending=ascending)) if limit else None
    rows = iter(jobs) if jobs is not None else find_jobs(engine, query, after=place, sort=sort, ascending=ascending)
    print_history(rows, get_settings().images_root, form=form, safe=safe, end="\0" if null else "\n")
    if jobs and len(jobs) == limit and form == "table":
        print_next(jobs[-1], sort)


@history.command(cls=QueryCommand)
@click.argument("query", nargs=-1, type=Terms())
@click.option("--by", type=click.Choice(["model", "sampler", "size", "day", "worker"]), default="model")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def stats(query: tuple[str, ...], by: str, as_json: bool) -> None:
    """Count images, failures and time of what QUERY finds.

    GPU hours add up each image's share of the calls it was in; images/s are those of one device at work. Days are
    those of UTC.
    """
    from db.tally import tally
    from producer.history import wanted
    from producer.statistics import print_stats

    engine = open_ledger().engine
    print_stats(tally(engine, wanted(engine, query), by), by, as_json=as_json)


@history.command(name="import")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recursive", is_flag=True, help="The folders in it, too.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--bare", is_flag=True, help="Images that do not say how they were made, too.")
@click.option("--tag", "tags", type=Tag(), multiple=True, help="A tag for each job.")
def import_folder(folder: Path, recursive: bool, dry_run: bool, bare: bool, tags: tuple[tuple[str, str], ...]) -> None:
    """Bring the images in DIR into the history, as one batch.

    Files are copied below the images' folder, and DIR stays as it is. What is there already is passed over. Ends with 1
    when a file could not be read.
    """
    from producer.adoption import find_files, record, survey

    ledger, root = open_ledger(), get_settings().images_root
    found = survey(ledger.engine, root, find_files(folder, recursive=recursive), dict(tags), bare=bare)
    batch = record(ledger, root, folder, found.new) if found.new and not dry_run else None
    for line in found.unreadable:
        click.echo(plain(line), err=True)
    for path in found.silent:
        click.echo(f"{plain(str(path))} does not say how it was made; --bare imports it.", err=True)
    done = f"imported as batch {batch}" if batch else "to import" if dry_run else "imported"
    click.echo(
        f"{len(found.new)} {done}, {found.known} known already, {len(found.silent)} without a recipe, "
        f"{len(found.unreadable)} unreadable."
    )
    if found.unreadable:
        raise SystemExit(1)
