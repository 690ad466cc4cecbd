"""The noise that a row of a prompt file records: what an export tells of a job in a compatibility mode."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import MsgspecError, convert, json

from configs.compat import ANCESTRAL, ON_GRID, Noise
from configs.errors import InvalidParameter

NOISE_RECORD = "noise_record"
"""The column. No tag goes by that name by chance."""


def read_noise(cell: object) -> dict[str, Any]:
    """A record from its cell, which a stranger may have written. Raises InvalidParameter."""
    try:
        noise = json.decode(cell, type=Noise) if isinstance(cell, str) else convert(cell, Noise)
    except (MsgspecError, ValueError) as error:
        raise InvalidParameter(f"is no record of noise as `promptmill export` writes it: {error}") from error
    return noise.record()


def find_clashes(noise: Mapping[str, Any] | None, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What of a row does not go with the noise it records: the column to change, and why."""
    if noise is None:
        return
    if values.get("compat") is None:
        yield NOISE_RECORD, "is of a compatibility mode, and compat names none; name it, or leave the record out"
    elif values["seed"] != noise["start"]["seed"]:
        yield (
            "seed",
            f"{values['seed']} is not the seed of the row's {NOISE_RECORD}; for another, leave the record out",
        )
    elif values["num_images"] != 1:
        yield "num_images", f"{values['num_images']} is not 1, of which the row's {NOISE_RECORD} is"
    elif not noise.get("steps") and takes_noise(values):
        yield NOISE_RECORD, f"has no noise for the steps of {values['sampler']}, which take some; leave it out"


def takes_noise(values: Mapping[str, Any]) -> bool:
    """Whether the originals' steps would."""
    return values["sampler"] in ANCESTRAL or (values["eta"] > 0 and values["sampler"] in ON_GRID)
