"""Commands that go to another machine: `promptmill --server URL ...`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from configs.plain_text import plain
from configs.settings import get_settings
from producer.errors import UsageError
from producer.options import FLAGS

if TYPE_CHECKING:
    from producer.remote import Server

SAME = ("name", "priority", "image_format", "preset", "template", "template_seed", "template_prompts")
TEXTS = ("prepend", "append", "append_negative", "once", "plan")
#: Flags of `submit` that speak of this machine.
LOCAL = {"changed": "--changed", "wildcards": "--wildcards", "styles": "--styles", "init_image": "--init-image",
         "mask_image": "--mask-image", "max_jobs": "--max-jobs"}  # fmt: skip


def open_server() -> "Server":
    """The server that the command line or the environment names."""
    from producer.remote import Server, read_token

    context = click.get_current_context()
    server = Server(context.find_root().params["server"], read_token(get_settings().home))
    context.call_on_close(server.close)
    return server


def submit(file: str, watch: bool, **flags: Any) -> None:
    import uuid

    options = _options(flags)
    content = sys.stdin.buffer.read() if file == "-" else _read(file)
    server = open_server()
    answer = server.post(
        "/batches/file",
        files={"file": ("stdin" if file == "-" else Path(file).name, content)},
        data={"options": options},
        headers={"Idempotency-Key": uuid.uuid4().hex},
    )
    for warning in answer["warnings"]:
        click.echo(f"Warning: {plain(warning)}", err=True)
    if flags["plan"]:
        return _print_plan(answer, as_json=flags["as_json"])
    batch = answer["batch"]
    click.echo(f"Batch {batch['id']}: {batch['total']} images of {plain(batch['name'])}, on {server.host}.", err=True)
    if answer["note"]:
        click.echo(plain(answer["note"]), err=True)
    if watch:
        _follow(server, batch)


def status(batch: str | None, limit: int) -> None:
    from producer.table import moment, print_fields, print_table

    server = open_server()
    if batch is not None:
        found = server.get(f"/batches/{_find(server, batch)['id']}")
        times = {name: moment(found[name]) for name in ("submitted_at", "paused_at", "cancelled_at")}
        holds = {
            f"held: {hold['model']}": f"{hold['jobs']}, {hold['cause']}: {hold['message']}" for hold in found["holds"]
        }
        counts, flagged = found.pop("counts"), ", ".join(f"{n} {flag}" for flag, n in found.pop("flagged").items())
        return print_fields({**found, **times, **counts, "flagged": flagged, "holds": None, **holds})
    rows = server.get("/batches", limit=min(limit, 200))["batches"]
    header = ("batch", "submitted", *(rows[0]["counts"] if rows else ()), "", "name")
    lines = ((b["id"], moment(b["submitted_at"]), *b["counts"].values(), b["standing"], b["name"]) for b in rows)
    return print_table(header, lines)


def watch(batch: str | None) -> None:
    server = open_server()
    _follow(server, _find(server, batch))


def _change(verb: str) -> Callable[..., None]:
    def change(batch: str | None) -> None:
        server = open_server()
        answer = server.post(f"/batches/{_find(server, batch)['id']}/{verb}")
        count = "" if answer["jobs"] is None else f"{answer['jobs']} jobs. "
        click.echo(
            f"Batch {answer['batch']['id']} is {answer['batch']['standing']}: {count}{plain(answer['note'])}".strip(
                ": "
            )
        )

    return change


def prioritise(batch: str, priority: int) -> None:
    server = open_server()
    answer = server.post(f"/batches/{_find(server, batch)['id']}/priority", method="PUT", json={"priority": priority})
    click.echo(f"Batch {answer['batch']['id']} has priority {priority}. {plain(answer['note'])}".strip(), err=True)


def history(**given: Any) -> None:
    from producer.history import print_history, print_paths

    form, limit = given.pop("form") or "table", given.pop("limit")
    server = open_server()
    asked = {name: given[name] for name in ("after", "sort", "ascending")}
    found = server.jobs(limit or None, q=_query(given), **asked)
    end = "\0" if given["null"] else "\n"
    if form == "paths":
        folder = get_settings().home / "fetched" / server.host.replace(":", "_")
        return print_paths((str(server.fetch(job, folder)) for job in found if job["image_url"]), end)
    rows: Any = (SimpleNamespace(**{**job, "state": _state(job), "image_path": job["image_url"]}) for job in found)
    print_history(rows, Path("/"), form=form, safe=given["safe"], end=end)
    if server.next and form == "table":
        click.echo(f"More: --after {plain(server.next)}", err=True)


def workers(as_json: bool) -> None:
    from producer.roster import show_workers

    show_workers(open_server().get("/workers"), as_json=as_json)


def report(batch: str | None, output: Path | None, tag: str | None, pictures: int) -> None:
    from producer.report import save

    server = open_server()
    found = _find(server, batch)
    page = server.page(f"/batches/{found['id']}/report", tag=tag, pictures=min(pictures, 1000))
    if str(output) == "-":
        click.echo(page)
    else:
        click.echo(save(page, output or Path(f"promptmill-batch-{found['id']}.html")))


def _find(server: "Server", batch: str | None) -> dict[str, Any]:
    """The batch of that number or name; the newest without one."""
    found = server.get("/batches", name=batch, limit=1)["batches"]
    if not found:
        raise UsageError("There is no batch yet; `promptmill submit FILE` makes one.")
    return dict(found[0])


def _follow(server: "Server", batch: Mapping[str, Any]) -> None:
    """Show how far it is until it is done; exits with 1 unless all succeeded."""
    import time

    from producer.progress import Counts, open_display

    with open_display(batch["total"]) as display:
        while True:
            found = server.get(f"/batches/{batch['id']}")
            counts = Counts(
                **found["counts"],
                paused=found["paused_at"] is not None,
                held=sum(hold["jobs"] for hold in found["holds"]),
            )
            display.show(counts)
            if not counts.left or counts.is_held:
                break
            time.sleep(1)
    click.echo(
        f"{counts.succeeded} images on {server.host}; `promptmill history batch:{batch['id']} --paths` fetches them."
    )
    sys.exit(0 if counts.all_succeeded else 1)


def _options(flags: Mapping[str, Any]) -> str:
    """The flags of `submit` as the API has them. Raises UsageError where one speaks of this machine."""
    import json

    for name, flag in LOCAL.items():
        if flags.get(name):
            raise UsageError(f"{flag} speaks of this machine's files; leave it out, or run the command on the server.")
    defaults = {name: flags[name] for name in FLAGS if flags.get(name) is not None}
    asked = {name: flags[name] for name in (*SAME, *TEXTS) if flags.get(name) is not None}
    sweeps = [_written(sweep) for sweep in flags["sweep"] or ()]
    return json.dumps({**asked, "defaults": defaults, "sweep": sweeps, "style": list(flags["style"] or ()),
                       "anyway": flags["yes"]})  # fmt: skip


def _written(sweep: Any) -> str:
    """A sweep as it is read again."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow("x".join(map(str, value.values())) for value in sweep.values)
    return f"{sweep.heading}={text.getvalue()}"


def _query(given: Mapping[str, Any]) -> str:
    """Words and flags of `history` together, in its language."""
    from db.search import Query, term
    from producer.history import flag_terms
    from producer.query import write

    batch = [term("batch", int(name) if name.isdecimal() else name)] if (name := given["batch"]) else []
    return " ".join((*given["query"], write(Query((*batch, *flag_terms(given)))))).strip()


def _state(job: Mapping[str, Any]) -> Any:
    from db.models import JobState

    return JobState(job["state"])


def _print_plan(answer: Mapping[str, Any], *, as_json: bool) -> None:
    import json

    click.echo(json.dumps({"plan": answer}) if as_json else "\n".join(map(plain, answer["lines"])))


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}.") from error


#: The commands that another machine can be asked to do.
REMOTE: Mapping[str, Callable[..., None]] = {
    "submit": submit,
    "status": status,
    "watch": watch,
    "pause": _change("pause"),
    "resume": _change("resume"),
    "prioritise": prioritise,
    "cancel": _change("cancel"),
    "retry": _change("retry"),
    "history": history,
    "workers": workers,
    "report": report,
}


def made_remote(command: click.Command) -> click.Command:
    """The command with the same flags, which asks the server. Raises UsageError where it cannot."""
    import copy

    name = command.name or ""
    if name not in REMOTE:
        _refuse(name)
    found = copy.copy(command)
    found.callback = REMOTE[name]
    if isinstance(found, click.Group):
        found.commands = {inner: _refusing(f"{name} {inner}") for inner in found.commands}
    # What a model's name means is known on the server.
    found.params = [_as_text(param) if param.name == "model" else param for param in command.params]
    return found


def _refusing(words: str) -> click.Command:
    lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(words, context_settings=lenient, callback=lambda: _refuse(words), add_help_option=False)


def _refuse(words: str) -> NoReturn:
    raise UsageError(
        f"`promptmill {words}` works on this machine alone: leave out --server and PROMPTMILL_SERVER, or run it on the "
        "server."
    )


def _as_text(param: click.Parameter) -> click.Parameter:
    import copy

    found = copy.copy(param)
    found.type = click.STRING
    return found
