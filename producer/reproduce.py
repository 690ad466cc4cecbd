"""Images made again to see whether they come out the same: what is asked of the worker's side, and the verdicts."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

from msgspec import json, structs
from sqlalchemy import Engine, Row

from db import queries
from db.errors import NotInLedger
from producer.child import PYTHON, last_lines
from producer.errors import NoRecord, RerunRefused
from producer.picture import LOSSLESS, SUFFIXES, file_of, find_flaw, open_picture
from producer.prompts import Row as Asked
from producer.rerun import UNREADABLE, job_of_image, row_of_job, row_of_record
from producer.show import read_record
from producer.verdict import Made, Verdict, judge

PROGRAM = (*PYTHON, "-m", "worker.reproduce")


class Target(NamedTuple):
    """An image that is to be made again."""

    name: str
    #: The parameters, by the words of the ledger.
    job: Mapping[str, Any]
    #: Of the image that is there.
    made: Made
    #: Why it cannot be made again.
    refusal: str = ""


def target_of_job(job: "Row[Any]", root: Path) -> Target:
    """An image of the ledger. Raises RerunRefused where the job has none."""
    if job.image_sha256 is None:
        raise RerunRefused(f"Job {job.id} has no image to compare with: it is {job.state.value}.")
    provenance = {name.removeprefix("image_"): value for name, value in job._mapping.items() if name[:6] == "image_"}
    file = file_of(job, root)
    flaw = find_flaw(str(file), job, deep=True) if file else None
    why = f"its file is {flaw.kind}: {flaw.detail}" if flaw else ""
    return Target(f"job {job.id}", _asked(row_of_job(job)), Made(provenance, job.image_sha256, file, why))


def target_of_id(engine: Engine, text: str, root: Path) -> Target:
    """The image of the job of that number. Raises RerunRefused where there is none."""
    try:
        return target_of_job(queries.find_job(engine, queries.id_of(text) or 0), root)
    except NotInLedger as error:
        raise RerunRefused(str(error)) from error


def target_of_file(engine: Engine, path: Path, root: Path) -> Target:
    """An image file: as the ledger has it where that knows it, else by its own record.

    Raises:
        NoRecord: it holds no record of ours.
        PictureUnreadable: it is no picture.
    """
    record = read_record(path)
    if not record:
        raise NoRecord(f"{path} does not say how Promptmill made it; give the number of a job, or an image made here.")
    if job := job_of_image(engine, path, record, root):
        found = target_of_job(job, root)
        is_copy = found.made.file is None or path.resolve() != found.made.file
        return found._replace(name=str(path), made=found.made._replace(file=path, flaw="") if is_copy else found.made)
    with open_picture(path) as image:
        pixels = sha256(image.convert("RGB").tobytes()).hexdigest() if path.suffix in LOSSLESS else None
    made = Made(record, pixels, path)
    try:
        return Target(str(path), _asked(row_of_record(record)), made)
    except UNREADABLE as error:
        return Target(str(path), {}, made, f"its record is none that can be made again: {error}")


def _asked(row: Asked) -> dict[str, Any]:
    return {**structs.asdict(row.parameters), "noise": row.noise, "tags": row.tags, "template": row.template}


def reproduce(targets: Sequence[Target], keep: Path | None, log: Path) -> Iterator[Verdict]:
    """Make them again in a process of their own, and judge each; in the order in which they are done.

    keep: folder for the new pictures. log: what else the process says goes there.
    """
    requests: dict[bool, dict[int, Any]] = {False: {}, True: {}}
    taken: set[str] = set()
    for number, target in enumerate(targets):
        if target.refusal:
            yield judge(target.name, target.made, {"error": target.refusal})
        else:
            exact = target.made.provenance.get("exact") is True
            kept = _free_name(keep, target, taken) if keep else None
            requests[exact][number] = _request(number, target, kept)
    # What exact mode sets holds for a whole process.
    for exact, wanted in requests.items():
        for number, found in _render(wanted, ["--exact"] if exact else [], log):
            yield judge(targets[number].name, targets[number].made, found)


def _request(number: int, target: Target, keep: str | None) -> dict[str, Any]:
    made = target.made
    file = str(made.file.absolute()) if made.file and not made.flaw else None
    about = {"made": made.provenance, "sha256": made.sha256, "file": file, "keep": keep}
    return {"number": number, "job": target.job, **about}


def _free_name(folder: Path, target: Target, taken: set[str]) -> str:
    """Where the new picture goes: by the old one's name, and over nothing that is there."""
    old = target.made.file or Path("image.png")
    suffix = old.suffix if old.suffix in SUFFIXES else ".png"
    names = (f"{old.stem}{f'-{count}' if count > 1 else ''}{suffix}" for count in range(1, 10**9))
    path = next(str(path) for name in names if str(path := folder / name) not in taken and not path.exists())
    taken.add(path)
    return path


def _render(requests: Mapping[int, Any], flags: Sequence[str], log: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """What came of each request, by its number."""
    if not requests:
        return
    left = set(requests)
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as file, log.open("ab") as output:
        file.writelines(json.encode(request) + b"\n" for request in requests.values())
        file.seek(0)
        process = subprocess.Popen([*PROGRAM, *flags], stdin=file, stdout=subprocess.PIPE, stderr=output)
        try:
            for found in _answers(process.stdout):
                left.discard(found["number"])
                yield found["number"], found
        finally:
            # Whoever is interrupted asks for no more.
            if left and process.poll() is None:
                process.kill()
            code = process.wait()
    for number in sorted(left):
        said = last_lines(log, 1)
        yield number, {"error": f"the process that makes them ended with exit code {code}: {said}; its log is {log}"}


def _answers(output: IO[bytes] | None) -> Iterator[dict[str, Any]]:
    assert output
    with output:
        yield from (json.decode(line) for line in output)
