"""The parameters of a job: one place for each one's name, type, bounds, and the sentence of what is allowed."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from configs.checkpoints import DEMO, Way, geometry, own_scheduler, way_of
from configs.compat import MODES, Mode, refusals
from configs.errors import InvalidParameter
from configs.models import find_model
from configs.samplers import OWN, PNDM, resolve
from configs.subprompts import split_prompt

MAX_SEED = 2**63 - 1
MAX_TEXT = 8000
WHOLE = re.compile(r"\s*([+-]?[0-9]{1,19})(?:\.0*)?\s*")
"""A spreadsheet with gaps writes whole numbers as 42.0."""
NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
AUTOCAST = "autocast"
PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "float16": ("fp16", "half"),
    "bfloat16": ("bf16",),
    "float32": ("fp32", "full"),
    AUTOCAST: (),
}
"""Number formats, and what else they are called. Autocast: weights in float32, products in half precision."""
ON, OFF = ("on", "true", "yes", "1"), ("off", "false", "no", "0")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Parameters(Struct, frozen=True, kw_only=True):
    """One row with everything resolved, but for the seed (None: to be drawn) and the number of images."""

    prompt: str
    negative_prompt: str = ""
    model: str
    sampler: str
    steps: int
    scale: float
    width: int
    height: int
    seed: int | None = None
    num_images: int = 1
    init_image: str | None = None
    mask_image: str | None = None
    strength: float
    eta: float
    precision: str | None = None
    compat: Mode | None = None
    weights: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """How one parameter is read from a cell or a setting, and in words what it takes."""

    allowed: str
    read: Callable[[object], Any]
    """Raises InvalidParameter."""


def _shown(value: object, longest: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _refusal(value: object, allowed: str) -> InvalidParameter:
    return InvalidParameter(f"{_shown(value)} is not {allowed}")


def _whole(low: int, high: int, *, multiple: int = 1, hint: str = "") -> Parameter:
    allowed = f"a whole number from {low} to {high}{f', a multiple of {multiple}' if multiple > 1 else ''}{hint}"

    def read(value: object) -> int:
        found = WHOLE.fullmatch(str(value)) if isinstance(value, str | int | float) else None
        if found and low <= (number := int(found[1])) <= high and number % multiple == 0:
            return number
        raise _refusal(value, allowed)

    return Parameter(allowed, read)


def _number(low: float, high: float, *, above_low: bool = False) -> Parameter:
    allowed = f"a number {f'above {low:g}, up' if above_low else f'from {low:g}'} to {high:g}"

    def read(value: object) -> float:
        if isinstance(value, str | int | float) and NUMBER.fullmatch(str(value)):
            number = float(str(value).strip())  # `\s` is more than float takes
            if math.isfinite(number) and low <= number <= high and not (above_low and number == low):
                return number
        raise _refusal(value, allowed)

    return Parameter(allowed, read)


def _scale() -> Parameter:
    """Between 0 and 1 it would say one thing and do another: guidance begins above 1."""
    number, allowed = _number(0, 100), "0 or a number from 1 to 100"

    def read(value: object) -> float:
        with suppress(InvalidParameter):
            if (scale := number.read(value)) == 0 or scale >= 1:
                return float(scale)
        raise _refusal(value, allowed)

    return Parameter(allowed, read)


def read_text(value: object) -> str:
    """Text that a database and a terminal can take, at most 8000 characters. Raises InvalidParameter."""
    if not isinstance(value, str):
        raise _refusal(value, "text")
    if len(value) > MAX_TEXT:
        raise InvalidParameter(f"has {len(value)} characters; at most {MAX_TEXT} are allowed")
    if "\0" in value or not (value.isascii() or _is_unicode(value)):
        raise InvalidParameter("holds a NUL character or half of a surrogate pair; only text is allowed")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _prompt(value: object) -> str:
    text = read_text(value)
    if text and not text.isspace():
        return text
    raise InvalidParameter(f"is empty; a text of 1 to {MAX_TEXT} characters is needed")


def _sampler(value: object) -> str:
    return resolve(read_text(value).strip()).name


def _precision(value: object) -> str:
    word = read_text(value).strip().lower()
    for name, others in PRECISIONS.items():
        if word in (name, *others):
            return name
    raise _refusal(value, PARAMETERS["precision"].allowed)


def _compat(value: object) -> str:
    word = read_text(value).strip().lower()
    if word in MODES:
        return word
    raise _refusal(value, PARAMETERS["compat"].allowed)


def _switch(value: object) -> bool:
    word = str(value).strip().lower()
    if word in (*ON, *OFF):
        return word in ON
    raise _refusal(value, PARAMETERS["weights"].allowed)


@lru_cache(maxsize=256)
def _known_model(model: str) -> str:
    if model == DEMO:
        return model
    path = _path(model)
    if model and _present(path, Path.exists):
        return str(path.absolute())
    # An absolute path may be one of the worker's machine.
    if path.is_absolute() or HUB_ID.fullmatch(model):
        return str(path)
    raise _refusal(model, PARAMETERS["model"].allowed)


def _model(value: object) -> str:
    name = read_text(value).strip()
    return name if find_model(name) else _known_model(name)


@lru_cache(maxsize=4096)
def _known_file(name: str) -> str:
    path = _path(name)
    if _present(path, Path.is_file):
        return str(path.resolve())
    raise InvalidParameter(f"{_shown(name, 300)} is not an existing file; the path of an image is needed")


def _picture(value: object) -> str:
    return _known_file(read_text(value).strip())


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~name" of nobody
        return Path(text)


def _present(path: Path, test: Callable[[Path], bool]) -> bool:
    try:
        return test(path)
    except (OSError, ValueError):  # a name no file system takes
        return False


PARAMETERS: Mapping[str, Parameter] = {
    "prompt": Parameter(f"a text of 1 to {MAX_TEXT} characters", _prompt),
    "negative_prompt": Parameter(f"a text of at most {MAX_TEXT} characters", read_text),
    "model": Parameter(
        f"{DEMO}, a name of `promptmill models`, a file or folder, or a hub id such as owner/name", _model
    ),
    "sampler": Parameter("the name of a sampler", _sampler),
    "steps": _whole(1, 1000),
    "scale": _scale(),
    "width": _whole(64, 4096, multiple=8),
    "height": _whole(64, 4096, multiple=8),
    "seed": _whole(0, MAX_SEED, hint=" (empty: one is drawn)"),
    "num_images": _whole(1, 1000),
    "init_image": Parameter("the path of an existing image", _picture),
    "mask_image": Parameter("the path of an existing image, white where the init image is to be filled", _picture),
    "strength": _number(0, 1, above_low=True),
    "eta": _number(0, 1),
    "precision": Parameter(
        "float16 (fp16, half), bfloat16 (bf16), float32 (fp32, full) or autocast (empty: the worker's own)", _precision
    ),
    "compat": Parameter(f"{' or '.join(MODES)} (empty: neither)", _compat),
    "weights": Parameter("on or off: whether text:number in the prompt is a weight", _switch),
}


def read_parameter(name: str, value: object) -> Any:
    """A cell's text, or a value from JSON, TOML or the command line, as the parameter's own type.

    Raises:
        InvalidParameter, UnknownSampler: the message names the value and what is allowed.
    """
    return PARAMETERS[name].read(value)


def conflicts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a row's parameters, all read, together: the parameter to change, and why."""
    steps, seed, images = row["steps"], row["seed"], row["num_images"]
    low, high = resolve(row["sampler"]).steps
    if row["sampler"] != OWN.name and way_of(row["model"]) is Way.PLAIN:
        yield "sampler", f"{row['sampler']} is not {OWN.name}, the only sampler that the checkpoint takes"
    if not low <= steps <= high:
        yield "steps", f"{steps} is not a whole number from {low} to {high}, which sampler {row['sampler']} takes"
    factor = geometry(row["model"]).factor
    for side in ("width", "height"):
        if row[side] % factor:
            yield side, f"{row[side]} is not a multiple of {factor}, which the checkpoint needs"
    yield from _picture_conflicts(row)
    if seed is not None and seed + images - 1 > MAX_SEED:
        yield "seed", f"{seed} is too large for {images} images; the last one's seed is at most {MAX_SEED}"
    yield from _compat_conflicts(row)


def _compat_conflicts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row.get("compat"):
        yield from refusals(row)
    if row.get("weights"):
        if way_of(row["model"]) is Way.PLAIN:
            yield "weights", "the checkpoint takes none; leave them off"
        try:
            split_prompt(row.get("prompt", ""))
        except InvalidParameter as error:
            yield "prompt", str(error)


def _picture_conflicts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row["init_image"] is None:
        if row.get("mask_image") is not None:
            yield "mask_image", "there is no init_image for it to lie on; name one"
        return
    if row.get("mask_image") is not None and row.get("compat") is not None:
        yield "mask_image", f"there is none with compat {row['compat']}, whose inpainting was another; leave compat out"
    steps, strength, sampler = row["steps"], row["strength"], resolve(row["sampler"])
    if int(steps * strength) < 1:
        yield "strength", f"{strength:g} of {steps} steps leaves no step to run; raise strength or steps"
    if (sampler.scheduler or own_scheduler(row["model"])) == PNDM:
        what = "PLMS" if sampler.scheduler else "Own is PLMS in this checkpoint, which"
        yield "sampler", f"{what} cannot begin from an image; DDIM is near to it"
