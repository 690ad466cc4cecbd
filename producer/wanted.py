"""What is wanted of a prompt file's records: templates, styles, added texts and sweeps, by flags over settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import InvalidParameter
from configs.settings import Settings
from producer.sweep import Sweeps
from producer.template_parser import Mode

FLAGS = {
    "template": "mode", "template_seed": "seed", "template_prompts": "prompts", "wildcards": "wildcards",
    "styles": "styles_file", "style": "styles", "prepend": "prepend", "append": "append",
    "append_negative": "append_negative", "sweep": "sweeps", "max_jobs": "max_jobs",
}  # fmt: skip
"""On the command line, and what they are wanted as."""
NEEDS = {"seed": ("random", "combinatorial"), "wildcards": ("random", "combinatorial"), "prompts": ("random",)}
"""Fields that do nothing without one of these modes."""


class Wanted(NamedTuple):
    """What is asked for, on the command line or in the settings."""

    mode: Mode | None = None
    seed: int | None = None
    prompts: int | None = None
    """Drawn from a template; None: one for each image of its row."""
    wildcards: Path | None = None
    styles_file: Path | None = None
    styles: tuple[str, ...] = ()
    prepend: str = ""
    append: str = ""
    append_negative: str = ""
    sweeps: Sweeps = Sweeps()
    max_jobs: int = Settings().max_jobs


def take_wanted(flags: dict[str, Any], settings: Settings) -> Wanted:
    """What flags and settings ask for; its flags are taken out of the others. Raises InvalidParameter."""
    given = {field: flags.pop(flag, None) for flag, field in FLAGS.items()}
    _refuse_idle(given)
    given["sweeps"] = Sweeps(given["sweeps"] or ())
    configured = {"wildcards": settings.wildcards, "styles_file": settings.styles, "max_jobs": settings.max_jobs}
    return Wanted(**{**configured, **{field: value for field, value in given.items() if value is not None}})


def _refuse_idle(given: Mapping[str, Any]) -> None:
    """Flags that would do nothing."""
    for flag, field in FLAGS.items():
        needs = NEEDS.get(field, (given["mode"],))
        if given[field] is not None and given["mode"] not in needs:
            means = " or ".join(f"--template {mode}" for mode in needs)
            raise InvalidParameter(
                f"--{flag.replace('_', '-')} does nothing without {means}; add that, or take it out."
            )
