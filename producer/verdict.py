"""Whether an image that was made again is the one that was there, and what of its making is not as it was."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

Word = Literal["identical", "near", "different", "impossible"]
#: dB of PSNR from which on two pictures are near: docs/reproduce.md has what was measured.
NEAR = 30.0
#: What is part of the provenance, and how it is called where it differs.
COLUMNS = {
    "device": "device",
    "dtype": "number format",
    "checkpoint_hash": "checkpoint",
    "batch_rows": "rows of a UNet call",
    "vae_batch": "images of a VAE call",
}
#: The same of what stands beside the libraries' versions.
VARIANT = {
    "rows": "rows of its UNet calls",
    "threads": "threads of the processor",
    "instructions": "instructions of the processor",
    "init_image": "init image",
    "mask_image": "mask",
}
#: What is recorded only where it is so.
SWITCHES = ("channels_last", "fused_projections", "compiled", "tiled")
PICTURES = ("init_image", "mask_image")
#: Characters of a value that are shown; a hash has fewer.
SHOWN, DIGITS, HASH = 60, 12, 64


class Made(NamedTuple):
    """An image that was made, as it is recorded."""

    #: By the words of the ledger.
    provenance: Mapping[str, Any]
    #: Of its pixels; None where only a lossy file is known.
    sha256: str | None
    file: Path | None
    #: What is wrong with the file, in words.
    flaw: str = ""


class Verdict(NamedTuple):
    """What came of it."""

    image: str
    verdict: Word
    #: In dB, where the pixels differ from those of the file.
    psnr: float | None
    reasons: Sequence[str]


def judge(name: str, made: Made, found: Mapping[str, Any]) -> Verdict:
    """The verdict on an image, by what the worker's side says of it."""
    if error := found.get("error"):
        return Verdict(name, "impossible", None, [str(error)])
    psnr = found.get("psnr")
    known = [made.flaw] if made.flaw else []
    known += differences(made.provenance, found["made"])
    if found["sha256"] == made.sha256 if made.sha256 else found.get("alike"):
        return Verdict(name, "identical", None, known)
    reasons = [*known, *unrecorded(made.provenance, found["made"])]
    if changed := [picture for picture in PICTURES if _is_other(made.provenance, found["made"], picture)]:
        return Verdict(name, "impossible", psnr, [f"{VARIANT[changed[0]]} is not what it was", *reasons])
    if made.flaw or made.file is None:
        return Verdict(
            name, "impossible", None, ["its hash differs, and there is no file to see by how much", *reasons]
        )
    is_near = bool(found.get("alike")) or (psnr is not None and psnr >= NEAR)
    return Verdict(name, "near" if is_near else "different", psnr, reasons or ["nothing that is recorded differs"])


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What of the provenance is not as it was, in words."""
    for name, word in COLUMNS.items():
        if before.get(name) is not None and before[name] != now.get(name):
            yield f"{word}: {_shown(before[name])}, now {_shown(now.get(name))}"
    was, versions = _versions(before), _versions(now)
    for name in sorted({*was, *versions}):
        if (name in SWITCHES or was.get(name) is not None) and was.get(name) != versions.get(name):
            yield f"{VARIANT.get(name, name)}: {_shown(was.get(name))}, now {_shown(versions.get(name))}"
    if before.get("flagged") == "unsafe":
        yield "it was found unsafe, and may have been hidden in another way"


def unrecorded(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What the record does not say, although it may matter."""
    was, versions = _versions(before), _versions(now)
    lacking = [word for name, word in COLUMNS.items() if before.get(name) is None]
    lacking += [VARIANT.get(name, name) for name in versions if name not in SWITCHES and was.get(name) is None]
    if lacking:
        yield f"not recorded: {', '.join(lacking)}"


def summary(verdicts: Sequence[Verdict]) -> str:
    """``12 identical, 2 near (at least 41.2 dB), 0 different``."""
    count = {word: sum(verdict.verdict == word for verdict in verdicts) for word in ("identical", "near", "different")}
    parts = [f"{number} {word}" for word, number in count.items()]
    if near := [verdict.psnr for verdict in verdicts if verdict.verdict == "near" and verdict.psnr is not None]:
        parts[1] += f" ({'at least ' if len(near) > 1 else ''}{min(near):.1f} dB)"
    if impossible := sum(verdict.verdict == "impossible" for verdict in verdicts):
        parts.append(f"{impossible} impossible")
    return ", ".join(parts)


def _versions(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    found = provenance.get("versions")
    return found if isinstance(found, dict) else {}


def _is_other(before: Mapping[str, Any], now: Mapping[str, Any], picture: str) -> bool:
    was, versions = _versions(before).get(picture), _versions(now).get(picture)
    return was is not None and was != versions


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text[:DIGITS] if len(text) == HASH else f"{text:.{SHOWN}}"
