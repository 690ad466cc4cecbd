"""Samplers by name: which diffusers scheduler, with which options. Read from ``samplers.toml``; imports no torch."""

import difflib
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

from configs.errors import UnknownSampler

TABLE = Path(__file__).with_name("samplers.toml")


class Sampler(msgspec.Struct, frozen=True, kw_only=True):
    """One way to remove noise, by its A1111 name."""

    name: str
    #: Name of the diffusers class; empty: the checkpoint's.
    scheduler: str
    #: What its constructor gets on top of the checkpoint's noise schedule.
    options: Mapping[str, Any]
    aliases: tuple[str, ...]
    #: Fewest and most steps it can do.
    steps: tuple[int, int] = (1, 1000)


OWN = Sampler(name="Own", scheduler="", options={}, aliases=())
"""The checkpoint's own scheduler as it was saved: no entry of the table, for it is another with each checkpoint."""
PNDM = "PNDMScheduler"
"""The scheduler of PLMS. Begun in the middle its steps are off by one: a timestep stands twice at its start."""


@cache
def known_samplers() -> Mapping[str, Sampler]:
    """All samplers by their own names, in the table's order."""
    table = msgspec.toml.decode(TABLE.read_bytes())["sampler"]
    return {name: msgspec.convert({"name": name, **entry}, Sampler) for name, entry in table.items()}


@lru_cache(maxsize=1024)
def resolve(name: str) -> Sampler:
    """The sampler of this name or alias, whatever its case, blanks, dashes and underscores.

    Raises:
        UnknownSampler: there is none; the message names close ones.
    """
    found = _spellings().get(_fold(name))
    if found is None:
        raise UnknownSampler(f"{name[:60]!r} is not a known sampler; {_advice(name)}")
    return found


@cache
def _spellings() -> Mapping[str, Sampler]:
    return {_fold(word): s for s in (OWN, *known_samplers().values()) for word in (s.name, *s.aliases)}


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _advice(name: str) -> str:
    close = difflib.get_close_matches(_fold(name), _spellings(), n=5, cutoff=0.6)
    names = list(dict.fromkeys(_spellings()[word].name for word in close))[:3]
    if names:
        return f"did you mean {' or '.join(names)}?"
    return f"known are {', '.join([*known_samplers(), OWN.name])}"
