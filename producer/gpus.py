"""The cards that this machine's workers may use, found without torch and without waking their driver's contexts."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from producer.errors import NoSuchGpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Seconds that `nvidia-smi` has: it takes that long where the driver is not kept loaded.
PATIENCE = 30.0
#: Two kinds of line of `nvidia-smi -L`: a card, and a part of the card before it that is a device of its own (MIG).
CARD = re.compile(r"GPU (?P<index>\d+): (?P<name>.+) \(UUID: (?P<uuid>GPU-[\w-]+)\)")
PART = re.compile(r"\s+MIG (?P<name>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[\w/-]+)\)")


class Gpu(NamedTuple):
    """One device of CUDA's."""

    #: For the eye, and for `--gpus`.
    number: str
    #: What `CUDA_VISIBLE_DEVICES` takes.
    key: str
    name: str = ""

    @property
    def label(self) -> str:
        return f"{self.number} ({self.name})" if self.name else self.number


def visible_gpus(environ: Mapping[str, str]) -> list[Gpu]:
    """Those that `CUDA_VISIBLE_DEVICES` names, else all that `nvidia-smi` knows."""
    named = environ.get(VISIBLE)
    return list_gpus() if named is None else named_gpus(named)


def named_gpus(value: str) -> list[Gpu]:
    """As CUDA reads the variable: numbers or UUIDs, up to the first that is none, such as -1."""
    found: list[Gpu] = []
    for word in (part.strip() for part in value.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", word):
            break
        found.append(Gpu(word if word.isdecimal() else str(len(found)), word))
    return found


def list_gpus() -> list[Gpu]:
    """All of the machine, and of a card that is divided its parts; none without a driver."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return read_list(listed.stdout)


def read_list(listed: str) -> list[Gpu]:
    """What `nvidia-smi -L` prints."""
    cards: list[Gpu] = []
    parts: dict[str, list[Gpu]] = {}
    for line in listed.splitlines():
        if card := CARD.match(line):
            cards.append(Gpu(card["index"], card["uuid"], card["name"]))
        elif cards and (part := PART.match(line)):
            siblings = parts.setdefault(cards[-1].number, [])
            siblings.append(
                Gpu(f"{cards[-1].number}.{len(siblings)}", part["uuid"], f"{cards[-1].name}, {part['name']}")
            )
    return [gpu for card in cards for gpu in parts.get(card.number, [card])]


def choose_gpus(gpus: Sequence[Gpu], wanted: Sequence[str]) -> list[Gpu]:
    """Those of the names, which are indices or UUIDs or how these begin.

    Raises:
        NoSuchGpu: there is none of a name.
    """
    return [_find(gpus, name) for name in wanted]


def _find(gpus: Sequence[Gpu], name: str) -> Gpu:
    for gpu in gpus:
        if name == gpu.number or (len(name) >= len("GPU-x") and gpu.key.startswith(name)):
            return gpu
    known = ", ".join(gpu.label for gpu in gpus) or "none"
    raise NoSuchGpu(f"There is no GPU {name} for workers here; there are: {known}.")
