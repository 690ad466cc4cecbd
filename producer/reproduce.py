"""Images made again to see whether they come out the same: what is asked of the worker's side, and the verdicts."""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec import json
from sqlalchemy import Engine, Row

from db import queries
from db.errors import NotInLedger
from producer.child import PYTHON
from producer.errors import NoRecord, RerunRefused
from producer.picture import LOSSLESS, file_of, find_flaw, open_picture
from producer.show import read_record

Word = Literal["identical", "near", "different", "impossible"]
#: dB of PSNR from which on nobody sees a difference: see docs/reproduce.md for what was measured.
NEAR = 30.0
PROGRAM = (*PYTHON, "-m", "worker.reproduce")
#: What is part of the provenance, and how it is called where it differs.
PROVENANCE = {
    "device": "device",
    "dtype": "number format",
    "checkpoint_hash": "checkpoint",
    "batch_rows": "rows of a UNet call",
    "vae_batch": "images of a VAE call",
}
#: What must be recorded for an image to be made again.
NEEDED = ("model", "prompt", "sampler", "steps", "scale", "width", "height", "seed")
#: Digits of a hash that tell it from another.
DIGITS = 12


class Target(NamedTuple):
    """An image that is to be made again."""

    name: str
    #: The parameters, by the words of the ledger.
    job: Mapping[str, Any]
    #: The provenance.
    made: Mapping[str, Any]
    #: Of its pixels as they were made; None where only a lossy file is known.
    sha256: str | None
    file: Path | None
    #: What is wrong with the file, in words.
    flaw: str = ""


class Verdict(NamedTuple):
    """What came of it. ``psnr`` in dB, where the files differ and could be compared."""

    name: str
    word: Word
    psnr: float | None
    reasons: Sequence[str]


def target_of_job(job: "Row[Any]", root: Path) -> Target:
    """An image of the ledger. Raises RerunRefused where the job has none."""
    if job.image_sha256 is None:
        raise RerunRefused(f"Job {job.id} has no image to compare with: it is {job.state.value}.")
    values = dict(job._mapping)
    made = {name.removeprefix("image_"): value for name, value in values.items() if name.startswith("image_")}
    file = file_of(job, root)
    flaw = find_flaw(str(file), job, deep=True) if file else None
    usable = None if flaw and flaw.kind != "altered" else file
    why = f"its file is {flaw.kind}: {flaw.detail}" if flaw else ""
    return Target(f"job {job.id}", values, made, job.image_sha256, usable, why)


def target_of_id(engine: Engine, text: str, root: Path) -> Target:
    """The image of the job of that number. Raises RerunRefused where there is none."""
    try:
        return target_of_job(queries.find_job(engine, queries.id_of(text) or 0), root)
    except NotInLedger as error:
        raise RerunRefused(str(error)) from error


def target_of_file(path: Path) -> Target:
    """An image as its file tells of it, wherever it was made.

    Raises:
        NoRecord: it holds no record of ours, or not all that is needed.
        PictureUnreadable: it is no picture.
    """
    record = read_record(path)
    if missing := [name for name in NEEDED if record.get(name) is None]:
        raise NoRecord(f"{path} does not say how Promptmill made it: there is no {', '.join(missing)} in its record.")
    with open_picture(path) as image:
        pixels = sha256(image.convert("RGB").tobytes()).hexdigest() if path.suffix in LOSSLESS else None
    return Target(str(path), record, record, pixels, path.resolve())


def reproduce(targets: Sequence[Target], keep: Path | None) -> Iterator[Verdict]:
    """Make them again in a process of their own, and judge each; in the order in which they are done.

    Raises:
        RerunRefused: the process did not do all of them; it has said why.
    """
    with tempfile.TemporaryFile() as file:
        file.writelines(json.encode(_request(number, target, keep)) + b"\n" for number, target in enumerate(targets))
        file.seek(0)
        with subprocess.Popen(PROGRAM, stdin=file, stdout=subprocess.PIPE) as process:
            assert process.stdout
            done = 0
            for line in process.stdout:
                found = json.decode(line)
                yield judge(targets[found["number"]], found)
                done += 1
    if done < len(targets):
        raise RerunRefused(f"{len(targets) - done} images were not made again: the process ended before.")


def _request(number: int, target: Target, keep: Path | None) -> dict[str, Any]:
    made = {name: target.made.get(name) for name in (*PROVENANCE, "versions", "watermark")}
    job = {name: value for name, value in target.job.items() if isinstance(value, str | int | float | dict | None)}
    kept = str(keep / f"{number:06d}.png") if keep else None
    return {"number": number, "job": job, "made": made, "file": str(target.file or "") or None, "keep": kept}


def judge(target: Target, found: Mapping[str, Any]) -> Verdict:
    """The verdict on an image, by what the worker's side says of it."""
    if error := found.get("error"):
        return Verdict(target.name, "impossible", None, [str(error)])
    psnr, reasons = found.get("psnr"), list(differences(target.made, found["made"]))
    alike = found["sha256"] == target.sha256 if target.sha256 else psnr is None and target.file is not None
    if alike:
        return Verdict(target.name, "identical", None, [target.flaw] if target.flaw else [])
    if target.flaw:
        reasons.insert(0, target.flaw)
    word: Word = "near" if psnr is not None and psnr >= NEAR else "different"
    return Verdict(target.name, word, psnr, reasons or ["nothing that is recorded differs"])


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What of the provenance is not as it was, in words."""
    for name, word in PROVENANCE.items():
        if before.get(name) != now.get(name):
            yield f"{word}: {_short(before.get(name))}, now {_short(now.get(name))}"
    was, versions = before.get("versions") or {}, now.get("versions") or {}
    for name in sorted({*was, *versions}):
        if was.get(name) != versions.get(name):
            yield f"{name}: {_short(was.get(name))}, now {_short(versions.get(name))}"
    if before.get("flagged") == "unsafe":
        yield "it was found unsafe, and what was saved may be hidden"
    if not before.get("exact"):
        yield "it was not made in exact mode, so its calls may have had several shapes"


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:DIGITS] if len(text) == len(sha256().hexdigest()) else text


def summary(verdicts: Iterable[Verdict]) -> str:
    """``12 identical, 1 near (41.2 dB at least), 0 different``."""
    found = list(verdicts)
    count = {word: sum(verdict.word == word for verdict in found) for word in ("identical", "near", "different")}
    near = min((verdict.psnr for verdict in found if verdict.word == "near" and verdict.psnr), default=None)
    parts = [f"{number} {word}" for word, number in count.items()]
    if near is not None:
        parts[1] += f" (at least {near:.1f} dB)"
    if impossible := sum(verdict.word == "impossible" for verdict in found):
        parts.append(f"{impossible} impossible")
    return ", ".join(parts)
