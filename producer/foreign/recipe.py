"""What an image of any program says of how it was made."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from configs.errors import UnknownSampler
from configs.samplers import resolve

#: Numbers of a recipe, whole and not.
WHOLE = ("seed", "steps", "width", "height")
REAL = ("scale", "strength")
TEXTS = ("prompt", "negative_prompt", "sampler", "schedule", "model", "model_hash")
#: As a recipe is shown.
ORDER = ("tool", "prompt", "negative_prompt", "seed", "steps", "scale", "sampler", "schedule", "strength", "model",
         "model_hash")  # fmt: skip
#: Schedules as ComfyUI and its kin call them, by A1111's word for them.
SCHEDULES = {"karras": "Karras", "exponential": "Exponential", "sgm_uniform": "SGM Uniform", "beta": "Beta"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is known; None and empty where nothing is said. The names of ``sampler`` and ``model`` are the program's."""

    tool: str
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    scale: float | None = None
    sampler: str = ""
    schedule: str = ""
    width: int | None = None
    height: int | None = None
    strength: float | None = None
    model: str = ""
    model_hash: str = ""
    #: All else that is said, by the program's own names, as it is.
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own_sampler(self) -> str | None:
        """What the sampler is called here; None where there is none such."""
        schedule = SCHEDULES.get(self.schedule.lower(), self.schedule)
        for name in (f"{self.sampler} {schedule}", self.sampler):
            with suppress(UnknownSampler):
                return resolve(name.strip()).name
        return None

    def fields(self) -> dict[str, Any]:
        """Everything, what is unknown last."""
        size = f"{self.width}x{self.height}" if self.width and self.height else None
        return {**{name: getattr(self, name) for name in ORDER}, "size": size, **self.unknown}


def make_recipe(tool: str, found: Mapping[str, Any], names: Mapping[str, str]) -> Recipe:
    """A recipe of a program's names and values. ``names`` gives ours for theirs; what no field takes is unknown."""
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for key, value in found.items():
        name = names.get(key)
        read = None if name is None or name in known else _read(name, value)
        if name is None or read is None:
            unknown[key] = value
        else:
            known[name] = read
    return Recipe(tool=tool, **known, unknown={key: value for key, value in unknown.items() if value not in ("", None)})


def _read(name: str, value: Any) -> Any:
    """The value as a field takes it, or None."""
    if name in TEXTS:
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    with suppress(ValueError, OverflowError):
        number = float(value)
        if not math.isfinite(number):
            return None
        if name in REAL:
            return number
        whole = int(value) if isinstance(value, int | str) else int(number)
        return whole if -1 <= whole < 2**64 else None
    return None


def join(texts: Iterable[str]) -> str:
    """Several prompts as one, each once."""
    return "\n".join(dict.fromkeys(text for text in texts if text.strip()))
