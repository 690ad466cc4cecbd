"""Columns of a prompt file: which heading means which parameter, and what is a tag."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from configs.errors import InvalidParameter
from configs.parameters import PARAMETERS, read_text
from producer.problems import Report
from producer.recorded_noise import NOISE_RECORD, read_noise

ALIASES = {
    "prompt": "prompts text caption positive_prompt positive p",
    "negative_prompt": "negative negative_prompts uc",
    "model": "sd_model sd_model_name checkpoint ckpt",
    "sampler": "sampler_name scheduler sa",
    "steps": "step num_inference_steps ddim_steps sampling_steps st",
    "scale": "cfg_scale cfg cfgs guidance_scale guidance c",
    "width": "w",
    "height": "h",
    "size": "image_size resolution",
    "seed": "se",
    "num_images": "n count n_samples n_iter batch_size num_images_per_prompt",
    "init_image": "init_img init",
    "mask_image": "mask init_mask inpaint_mask",
    "strength": "denoising_strength",
    "eta": "ddim_eta",
    "precision": "dtype torch_dtype",
    "compat": "compatibility",
    "weights": "weighted",
}
"""Headings seen in the files of A1111, CompVis, optimizedSD, diffusers and DiffusionDB, by the parameter they mean."""

PICTURES = ("init_image", "mask_image")

SIZE = re.compile(r"\s*([0-9]+)\s*[xX×]\s*([0-9]+)\s*")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading as the file spells it, the parameter it gives, and how its cells are read."""

    heading: str
    name: str
    """A parameter, ``size``, ``noise_record``, or nothing: a tag."""
    read: Callable[[object], Any]
    """Raises ConfigError."""

    @property
    def gives(self) -> tuple[str, ...]:
        """What a cell of it decides."""
        if self.name == "size":
            return "width", "height"
        return (self.name or f"tag {self.heading}",)


def fold(heading: str) -> str:
    """A heading without what spellings differ in: case, blanks, dashes and underscores."""
    return re.sub(r"[\s_-]+", "", heading).casefold()


NAMES = {fold(word): name for name, words in ALIASES.items() for word in (name, *words.split())}
NAMES[fold(NOISE_RECORD)] = NOISE_RECORD


def nearly(heading: str) -> str:
    """The parameter that a heading of a tag is one slip of the hand away from, or nothing."""
    folded = fold(heading)
    # Short aliases are like too many words.
    names = [word for word, name in NAMES.items() if word == fold(name) or len(word) > 7]
    names = [word for word in names if abs(len(word) - len(folded)) <= 1]
    close = get_close_matches(folded, names, n=1, cutoff=0.8)
    return NAMES[close[0]] if close else ""


def means_prompt(heading: str) -> bool:
    return NAMES.get(fold(heading)) == "prompt"


def make_column(heading: str, folder: Path) -> Column:
    """The column of a heading. Paths in its cells start from ``folder``."""
    heading = heading.strip()
    name = NAMES.get(fold(heading), "")
    if name == "size":
        return Column(heading, name, _read_size)
    if name == NOISE_RECORD:
        return Column(heading, name, read_noise)
    if name in PICTURES:
        return Column(heading, name, lambda cell: _read_path(name, cell, folder))
    return Column(heading, name, PARAMETERS[name].read if name else _read_tag)


def make_columns(headings: Sequence[str], folder: Path, line: int, report: Report) -> list[Column] | None:
    """The columns of a header; None where it has no prompt, so that no row makes sense."""
    columns = [make_column(heading, folder) for heading in headings]
    for column, message in _header_problems(columns):
        report.add(line, column, message)
    if any(column.name == "prompt" for column in columns):
        return columns
    found = ", ".join(column.heading for column in columns)
    report.add(line, "prompt", f"there is no such column, only {found:.200}; name one prompt, text or caption")
    return None


def repeated(columns: Iterable[Column]) -> Iterator[tuple[str, str]]:
    """What columns give a second time: the heading, and what is wrong with it."""
    seen: dict[str, str] = {}
    for column in columns:
        again = next((key for key in column.gives if key in seen), None)
        if again:
            yield column.heading, f"gives {again} a second time, after {seen[again]}; keep one of the two"
        seen.update(dict.fromkeys(column.gives, column.heading))


def _header_problems(columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    for number, column in enumerate(columns, 1):
        if not column.heading:
            yield f"column {number}", "has no heading; give it one, or remove the column"
    yield from repeated(column for column in columns if column.heading)


def _read_size(cell: object) -> tuple[int, int]:
    if isinstance(cell, str) and (found := SIZE.fullmatch(cell)):
        return PARAMETERS["width"].read(found[1]), PARAMETERS["height"].read(found[2])
    raise InvalidParameter(f"{cell!r:.60} is not a width and a height such as 512x768")


def _read_path(name: str, cell: object, folder: Path) -> str:
    joined = str(folder / cell.strip()) if isinstance(cell, str) else cell
    return PARAMETERS[name].read(joined)  # type: ignore[no-any-return]


def _read_tag(cell: object) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int | float):
        return str(cell)
    if isinstance(cell, str):
        return read_text(cell)
    raise InvalidParameter("holds a list or an object; text, a number, true or false is needed")
