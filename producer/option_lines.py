"""Lines of A1111's "prompts from file": ``--prompt "a cat" --steps 20 --cfg_scale 7``.

As there (``scripts/prompts_from_file.py``), ``--prompt`` and ``--negative_prompt`` take all words up to the next
option, and every other option takes one. Where A1111 takes a wrong line for a prompt, and goes on, it is refused here.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from configs.errors import InvalidParameter
from configs.parameters import WHOLE
from producer.columns import ALIASES, Column, make_column, repeated
from producer.suggestions import suggest

BEGINS = re.compile(r"\s*--[A-Za-z]")
INSIDE = re.compile(r"\s--(?:steps|cfg_scale|sampler_name|negative_prompt|sd_model|n_iter)\s")
"""In a line that does not begin with one: options that are taken for text."""
WORDY = ("prompt", "negative_prompt")
NUMBERS_OF_IMAGES = ("n_iter", "batch_size")
IDLE = ("do_not_save_grid", "outpath_grids", "prompt_for_display")
"""What they ask for is so anyway, or changes no image."""
STYLES = "--styles"
"""The heading that an option gets: a column of that name may be a tag, and this not."""
Test = Callable[[str], bool]


def _is_not_true(text: str) -> bool:
    """As A1111 reads it."""
    return text.strip().lower() != "true"


def _is_none(text: str) -> bool:
    return text.strip() in ("-1", "0", "0.0")


OFF: dict[str, Test] = {
    **dict.fromkeys(("restore_faces", "tiling", "do_not_save_samples"), _is_not_true),
    **dict.fromkeys(("subseed", "subseed_strength", "seed_resize_from_h", "seed_resize_from_w"), _is_none),
}
"""What we do not have, and may be asked for where it is off."""
INSTEAD = {
    "sampler_index": "name it with --sampler_name",
    "outpath_samples": "images go to the batch's folder",
}


def has_options(line: str) -> bool:
    return BEGINS.match(line) is not None


def holds_options(prompt: str) -> bool:
    """Whether a prompt has options in it that are taken for text."""
    return "--" in prompt and INSIDE.search(prompt) is not None


def read_options(line: str, folder: Path) -> list[tuple[Column, object]]:
    """The cells of a line. Raises InvalidParameter."""
    found = dict[str, str]()
    for name, words in _options(line):
        if name in found:
            raise InvalidParameter(f"--{name} is there twice; keep one of the two")
        found[name] = _value(name, words)
    cells = [cell for name, value in _multiplied(found).items() if (cell := _cell(name, value, folder))]
    for heading, problem in repeated(column for column, _ in cells):
        raise InvalidParameter(f"--{heading} {problem}")
    return cells


def _options(line: str) -> Iterator[tuple[str, list[str]]]:
    """Each option with the words that follow it."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidParameter('has a quote that is not closed; put a text with a \' in it between ""') from error
    starts = [place for place, word in enumerate(words) if word.startswith("--")]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        yield words[start].removeprefix("--"), words[start + 1 : end]


def _value(name: str, words: list[str]) -> str:
    if name in WORDY:
        return " ".join(words)
    if len(words) == 1:
        return words[0]
    if not words:
        raise InvalidParameter(f"--{name} has no value; give it one")
    raise InvalidParameter(f"--{name} has {len(words)} values; put a text of several words between quotes")


def _multiplied(found: dict[str, str]) -> dict[str, str]:
    """Batches and their size make the number of images."""
    both = [WHOLE.fullmatch(found[name]) for name in NUMBERS_OF_IMAGES if name in found]
    if len(both) < 2 or not all(both):
        return found
    batches, size = (int(number[1]) for number in both if number)
    others = {name: value for name, value in found.items() if name not in NUMBERS_OF_IMAGES}
    return {**others, "num_images": str(batches * size)}


def _cell(name: str, value: str, folder: Path) -> tuple[Column, Any] | None:
    """What an option gives; nothing where it says what is so anyway."""
    column = make_column(name, folder)
    if column.name == "seed" and value.strip() == "-1":
        return None
    if column.name:
        return column, value
    if name == "styles":
        return make_column(STYLES, folder), value
    if name in IDLE or (name in OFF and OFF[name](value)):
        return None
    if name in OFF or name in INSTEAD:
        raise InvalidParameter(f"--{name} is not to be had here; {INSTEAD.get(name, 'take it out')}")
    known = dict.fromkeys((*WORDY, "sd_model", "sampler_name", "cfg_scale", "n_iter", "batch_size", "styles", *ALIASES))
    raise InvalidParameter(f"--{name} is no option; {suggest(name, known, 'there are ' + ', '.join(known))}")
