"""Sweeps: a parameter that takes several values in turn. Several sweeps make every combination of theirs."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from configs.errors import ConfigError, InvalidParameter
from producer.columns import Column, fold, make_column
from producer.suggestions import suggest

SWEPT = (
    "negative_prompt", "model", "sampler", "steps", "scale", "width", "height", "size", "seed", "init_image",
    "mask_image", "strength", "eta", "precision", "compat", "weights",
)  # fmt: skip
"""What can be swept: all that makes an image another one, but for its prompt, which templates are for."""
OTHERWISE = {
    "prompt": "write a template, such as {red|blue}, and add --template combinatorial",
    "num_images": "--num-images gives every row as many",
}
NUMBERS = ("steps", "scale", "width", "height", "seed", "strength", "eta")
NUMBER = r"\s*([+-]?(?:[0-9]{1,19}(?:\.[0-9]{0,12})?|\.[0-9]{1,12}))\s*"
RANGE = re.compile(f"{NUMBER}:{NUMBER}(?::{NUMBER})?")
MOST = 10_000
"""Values of one sweep."""


class Sweep(NamedTuple):
    """The values that one parameter takes. ``values`` are what each gives a row: the size gives width and height."""

    heading: str
    names: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]


class Sweeps:
    """Every combination of some sweeps; one that changes nothing, where there are none.

    Raises InvalidParameter where two of them give the same parameter.
    """

    def __init__(self, sweeps: Sequence[Sweep] = ()) -> None:
        seen = dict[str, str]()
        for sweep in sweeps:
            for name in sweep.names:
                if name in seen:
                    raise InvalidParameter(f"{sweep.heading} sweeps {name} a second time, after {seen[name]}.")
                seen[name] = sweep.heading
        self._sweeps = sweeps
        self.names = tuple(seen)
        self.count = prod(len(sweep.values) for sweep in sweeps)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """What each gives a row; the last sweep's values change fastest."""
        for values in product(*(sweep.values for sweep in self._sweeps)):
            yield {name: value for part in values for name, value in part.items()}


def read_sweep(text: str, admit: Callable[[str, object], None] | None = None) -> Sweep:
    """``steps=20,30,50`` or ``scale=5:9:0.5``: start, stop, and the step, which is 1 where it is left out.

    admit: is asked about each value before it is read, and raises InvalidParameter.

    Raises InvalidParameter.
    """
    heading, equals, written = text.partition("=")
    if not equals:
        raise InvalidParameter(f"{text!r:.60} is not NAME=VALUES, such as steps=20,30,50 or scale=5:9:1")
    column = _column(heading)
    cells = [cell for item in _items(written) for cell in _spread(item, column)]
    if len(cells) > MOST:
        raise InvalidParameter(f"{heading} gets {len(cells)} values; at most {MOST} are allowed")
    if admit:
        for cell in cells:
            admit(column.name, cell)
    values = {tuple(value.items()): value for value in (_read(column, cell) for cell in cells)}
    if not cells:
        raise InvalidParameter(f"{heading} gets no values; give some, such as {heading}=1,2")
    if len(values) < len(cells):
        raise InvalidParameter(f"{heading} gets {len(cells)} values, and some twice; give each once")
    return Sweep(column.heading, column.gives, tuple(values.values()))


def _column(heading: str) -> Column:
    column = make_column(heading, Path())
    if column.name in SWEPT:
        return column
    if column.name in OTHERWISE:
        raise InvalidParameter(f"{column.heading} cannot be swept; {OTHERWISE[column.name]}")
    advice = suggest(fold(heading), SWEPT, f"there are {', '.join(SWEPT)}")
    raise InvalidParameter(f"{heading!r:.60} cannot be swept; {advice}")


def _items(written: str) -> list[str]:
    """The values between commas; those that hold one are quoted, as in a CSV file."""
    try:
        return [item.strip() for item in next(csv.reader([written], skipinitialspace=True, strict=True), [])]
    except csv.Error as error:
        raise InvalidParameter(f"{written!r:.60} has a quote that is not closed") from error


def _spread(item: str, column: Column) -> Iterator[str]:
    """The values of a range, exactly as decimals; any other item is one value."""
    found = RANGE.fullmatch(item) if column.name in NUMBERS else None
    if not found:
        yield item
        return
    start, stop, step = (Decimal(number or "1") for number in found.groups())
    if step == 0 or (stop - start) * step < 0:
        raise InvalidParameter(f"{item} does not lead from {found[1]} to {found[2]}; give another step")
    if (stop - start) / step >= MOST:
        raise InvalidParameter(f"{item} has {int((stop - start) / step) + 1} values; at most {MOST} are allowed")
    yield from (f"{start + place * step:f}" for place in range(int((stop - start) // step) + 1))


def _read(column: Column, cell: str) -> dict[str, Any]:
    try:
        value = column.read(cell)
    except ConfigError as error:
        raise InvalidParameter(f"{column.heading}: {error}") from error
    return dict(zip(column.gives, value if column.name == "size" else (value,), strict=True))
