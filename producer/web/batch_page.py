"""A prompt file by the browser: what it would become, every bad row in its place, and then its submission."""

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from configs.errors import ConfigError, InvalidParameter
from configs.settings import Settings
from db.ledger import Ledger
from producer.errors import InvalidPromptFile, UsageError
from producer.outside import refuse_path
from producer.plan import make_plan
from producer.problems import Problem
from producer.submit import Submission
from producer.sweep import read_sweep
from producer.web import intake
from producer.web.given import TheLedger, TheSettings
from producer.web.make_form import FORMATS
from producer.web.page import page
from producer.web.previews import Kept, Previews
from producer.web.sent import Sent, content_of, filename_of

router = APIRouter(include_in_schema=False)

#: Rows that a preview shows.
SAMPLE = 12
#: What the form says of a batch; each is a flag of `promptmill submit`.
SAID = ("name", "priority", "image_format", "preset", "template", "template_seed", "style", "sweep", "once")
WHOLE = {"priority": (0, 9), "template_seed": (0, 2**63 - 1)}
EMPTY = {**dict.fromkeys(SAID, ""), "text": ""}


def _previews(request: Request) -> Previews:
    state = request.app.state
    if not hasattr(state, "previews"):
        state.previews = Previews()
    found: Previews = state.previews
    return found


ThePreviews = Annotated[Previews, Depends(_previews)]


@router.get("/batch")
def show_batch(request: Request) -> Response:
    """The form."""
    return _show(request, EMPTY)


@router.post("/batch/preview")
def preview(request: Request, settings: TheSettings, ledger: TheLedger, previews: ThePreviews, sent: Sent) -> Response:
    """What a file would become; nothing is recorded."""
    given = {**EMPTY, **{name: value for name, value in sent.items() if isinstance(value, str)}}
    content = content_of(sent, "file")
    filename = filename_of(sent, "file") if content else "prompts.txt"
    if not (content := content or given["text"].encode()):
        return _show(request, given, sentence="Choose a file, or write prompts, a line each.")
    kept = Kept(request.state.caller.session.id, content, filename, given)
    try:
        checked = _check(kept, settings)
    except InvalidPromptFile as error:
        bad = [(problem, _line(content, problem)) for problem in error.problems]
        return _show(request, given, problems=bad, total=error.total, filename=filename)
    except (ConfigError, UsageError) as error:
        return _show(request, given, sentence=str(error))
    return _show_plan(request, settings, ledger, kept, previews.keep(kept), checked)


@router.post("/batch")
def submit(request: Request, settings: TheSettings, ledger: TheLedger, previews: ThePreviews, sent: Sent) -> Response:
    """Record and send a file that was previewed; asked for twice, it is submitted once."""
    word = str(sent.get("word", ""))
    kept = previews.find(word, request.state.caller.session.id)
    if not kept:
        return _show(request, EMPTY, sentence="The file was kept for half an hour; choose it once more.")
    batch = intake.enqueue(_check(kept, settings), ledger, settings, key=f"page {word}").batch
    return RedirectResponse(f"/queue#batch-{batch.id}", 303)


def _check(kept: Kept, settings: Settings) -> Submission:
    """Raises InvalidPromptFile, ConfigError, UsageError."""
    checked = intake.check_upload(kept.content, kept.filename, settings, **_flags(kept.given))
    return intake.drop_repeats(checked) if kept.given["once"] else checked


def _flags(given: dict[str, str]) -> dict[str, Any]:
    """What the form says, as the flags of the command. Raises InvalidParameter."""
    flags: dict[str, Any] = {name: given[name].strip() or None for name in SAID if name != "once"}
    for name, (low, high) in WHOLE.items():
        if flags[name] is not None:
            flags[name] = _whole(name, flags[name], low, high)
    if flags["image_format"] not in (None, *FORMATS):
        raise InvalidParameter(f"The format is one of {', '.join(FORMATS)}.")
    if flags["template"] not in (None, "random", "combinatorial"):
        raise InvalidParameter("Templates are random or combinatorial.")
    flags["priority"] = 5 if flags["priority"] is None else flags["priority"]
    flags["style"] = (flags["style"],) if flags["style"] else None
    lines = (flags["sweep"] or "").splitlines()
    flags["sweep"] = tuple(read_sweep(line.strip(), refuse_path) for line in lines if line.strip()) or None
    return flags


def _whole(name: str, text: str, low: int, high: int) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high:
        return int(text)
    raise InvalidParameter(f"{name.replace('_', ' ')}: {text!r:.40} is not a whole number from {low} to {high}.")


def _line(content: bytes, problem: Problem) -> str:
    """The line of the file that a problem is of, cut short."""
    lines = content.decode("utf-8-sig", "replace").splitlines()
    return lines[problem.line - 1][:300] if 0 < problem.line <= len(lines) else ""


def _show_plan(
    request: Request, settings: Settings, ledger: Ledger, kept: Kept, word: str, checked: Submission
) -> Response:
    plan = make_plan(checked, ledger.engine, settings, None)
    rows = list(islice(checked.prompts.rows(), SAMPLE))
    shown: dict[str, Any] = {"plan": plan, "rows": rows, "warnings": intake.warnings(checked), "word": word}
    return _show(request, kept.given, filename=kept.filename, batch=checked.batch, **shown)


def _show(request: Request, given: dict[str, str], **values: Any) -> Response:
    shown = {"problems": [], "total": 0, "sentence": "", "filename": "", "plan": None, "formats": FORMATS}
    status = 422 if values.get("problems") or values.get("sentence") else 200
    return page(request, "batch.html", status=status, nav="batch", given=given, **{**shown, **values})
