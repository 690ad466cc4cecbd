"""The form of a page that makes images: what it holds, how it is read, and what is wrong with it."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Row

from configs.checkpoints import DEMO
from configs.errors import ConfigError, InvalidParameter
from configs.models import read_models
from configs.parameters import PARAMETERS, read_parameter
from configs.settings import Settings
from db.glimpses import INTERACTIVE
from producer.errors import InvalidPromptFile
from producer.outside import refuse_path
from producer.submit import Submission, check
from producer.sweep import read_sweep

Kind = Literal["txt2img", "img2img", "inpaint"]
FORMATS = ("png", "jpeg", "webp")
#: What a form gives of a row, besides its pictures.
TEXTS = tuple(name for name in PARAMETERS if name not in ("init_image", "mask_image"))
#: What it shows of a job that is to be varied.
RECALLED = tuple(name for name in TEXTS if name not in ("num_images", "weights"))
MOST_TEXT = 20_000
VARIATIONS = 4


@dataclass
class Faults(Exception):
    """What is wrong: by field, and with the whole."""

    fields: dict[str, str] = field(default_factory=dict)
    whole: list[str] = field(default_factory=list)


def defaults(settings: Settings) -> dict[str, str]:
    """What an empty form shows."""
    shown = {name: text(settings.job.get(name)) for name in TEXTS}
    return {**shown, "num_images": "1", "n_iter": "1", "image_format": settings.image_format, "style": ""}


def recalled(job: Row[Any], settings: Settings) -> dict[str, str]:
    """What it shows to make a job once more, or something like it."""
    shown = {name: text(getattr(job, name)) for name in RECALLED}
    if not is_allowed(job.model, settings):
        del shown["model"]
    return {**defaults(settings), **shown, "weights": "on" if job.weights else ""}


def text(value: object) -> str:
    return "" if value is None or value is False else f"{value:g}" if isinstance(value, float) else str(value)


def models(settings: Settings) -> list[str]:
    """Those that a page offers: the default first, then by name."""
    return list(dict.fromkeys([settings.job["model"], *sorted(read_models()), DEMO]))


def is_allowed(model: str, settings: Settings) -> bool:
    """Whether a browser may name it: a path it must not, unless it is the default."""
    try:
        if model != settings.job["model"]:
            refuse_path("model", model)
    except InvalidParameter:
        return False
    return True


def check_form(
    given: Mapping[str, str], settings: Settings, kind: Kind, pictures: Mapping[str, Path], sweep: str = ""
) -> Submission:
    """What a form asks for, checked by the rules of a prompt file. pictures: init image and mask, as they are kept.

    Raises Faults.
    """
    faults = Faults()
    row = _row(given, settings, faults)
    if given.get("image_format", "") not in ("", *FORMATS):
        faults.fields["image_format"] = f"is not {', '.join(FORMATS)}"
    if faults.fields:
        raise faults
    row.update({name: str(path) for name, path in pictures.items()})
    style = tuple(filter(None, [given.get("style", "").strip()])) or None
    flags: dict[str, Any] = {"style": style, "sweep": (read_sweep(sweep),) if sweep else None}
    return _check(row, settings, name=kind, image_format=given.get("image_format") or None, **flags)


def _check(row: Mapping[str, str], settings: Settings, **flags: Any) -> Submission:
    with tempfile.TemporaryDirectory(prefix="promptmill-") as folder:
        file = Path(folder, "form.jsonl")
        file.write_text(json.dumps(row) + "\n", "utf-8")
        try:
            return check(str(file), settings, priority=INTERACTIVE, **flags)
        except InvalidPromptFile as error:
            raise _faults(error) from error
        except ConfigError as error:
            raise Faults({}, [str(error)]) from error


def _faults(error: InvalidPromptFile) -> Faults:
    faults = Faults()
    for problem in error.problems:
        if problem.column in (*PARAMETERS, "style"):
            faults.fields.setdefault(problem.column, problem.message)
        else:
            faults.whole.append(": ".join(filter(None, (problem.column, problem.message))))
    return faults


def _row(given: Mapping[str, str], settings: Settings, faults: Faults) -> dict[str, str]:
    """The cells; each is read once, so that every wrong one is told at its field."""
    row = {name: given.get(name, "") for name in TEXTS if given.get(name, "").strip() or name == "prompt"}
    if not is_allowed(row.get("model", DEMO), settings):
        faults.fields["model"] = "is no model of `promptmill models`, and no hub id such as owner/name"
    for name, value in row.items():
        try:
            if name not in faults.fields:
                read_parameter(name, value)
        except ConfigError as error:
            faults.fields[name] = str(error)
    if not {"num_images", "n_iter"} & faults.fields.keys():
        _multiply(row, given.get("n_iter", "").strip() or "1", faults)
    return row


def _multiply(row: dict[str, str], iterations: str, faults: Faults) -> None:
    """The originals' n_iter: so many times the images."""
    try:
        times = read_parameter("num_images", iterations)
        row["num_images"] = str(times * read_parameter("num_images", row.get("num_images", "1")))
        read_parameter("num_images", row["num_images"])
    except ConfigError as error:
        faults.fields["n_iter"] = str(error)


def strengths(strength: float) -> str:
    """A sweep around a strength, for variations of what began from a picture."""
    around = sorted({round(min(1.0, max(0.05, strength + step)), 2) for step in (-0.2, -0.1, 0.0, 0.1)})
    return f"strength={','.join(f'{value:g}' for value in around)}"
