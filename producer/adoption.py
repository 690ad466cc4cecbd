"""Folders of pictures that were made elsewhere, or whose ledger is lost, brought into the history.

Images lie below the images' root. So each file is copied there, byte by byte, under the name of its job; the folder
stays as it is. What a file does not say of itself is 0 and empty in the ledger.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from filecmp import cmp
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from msgspec import structs
from sqlalchemy import Engine

from configs.parameters import MAX_SEED, MAX_TEXT
from configs.plain_text import recordable
from db import adoption, inspection
from db.ledger import Ledger, NewBatch
from producer.errors import ImportRefused, PictureUnreadable
from producer.foreign.detection import read_recipe
from producer.foreign.recipe import Recipe
from producer.picture import ENDS, LOSSLESS, open_picture
from producer.rerun import UNREADABLE, row_of_record
from producer.show import read_record
from producer.submit import slug

#: What pictures are called, and what they are called among the images.
SUFFIXES = {".png": ".png", ".jpg": ".jpg", ".jpeg": ".jpg", ".webp": ".webp"}
FORMATS = {".png": "png", ".jpg": "jpeg", ".webp": "webp"}
#: Jobs recorded at once.
PART = 1000
#: What the ledger must have of an image and nobody says.
UNSAID = {"seconds": 0.0, "worker": "", "device": "", "dtype": "", "batch_rows": 1, "checkpoint_hash": "",
          "versions": {}}  # fmt: skip
#: Of what our own record tells of the making, the texts with their longest, and the numbers.
TEXTS = {"worker": 200, "device": 200, "dtype": 16, "checkpoint_hash": 64}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A file that is to become an image: its rows of the ledger, without what only the ledger knows."""

    path: Path
    job: Mapping[str, Any]
    image: Mapping[str, Any]


@dataclass
class Survey:
    """What a folder holds."""

    new: list[Picture] = field(default_factory=list)
    #: Files that the ledger has, or that are there twice.
    known: int = 0
    #: Files that do not say how they were made, where these are not wanted.
    silent: list[Path] = field(default_factory=list)
    #: A sentence for each file that cannot be read.
    unreadable: list[str] = field(default_factory=list)


def find_files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    """Pictures by their names, in order; links are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(folders) if recursive else []
        paths = (Path(place, name) for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES)
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def survey(engine: Engine, root: Path, files: Iterable[Path], tags: Mapping[str, str], *, bare: bool) -> Survey:
    """Look at files, and at what the ledger has of them. ``bare``: whether those that say nothing are wanted."""
    found, pictures = Survey(), dict[str, Picture]()
    for path in files:
        try:
            picture = _read(path, tags, bare=bare)
        except PictureUnreadable as error:
            found.unreadable.append(str(error))
            continue
        except OSError as error:
            found.unreadable.append(f"{path} cannot be read: {error.strerror}.")
            continue
        if picture is None:
            found.silent.append(path)
        elif pictures.setdefault(picture.image["sha256"], picture) is not picture:
            found.known += 1
    known = _known(engine, root, pictures)
    found.known += len(known)
    found.new = [picture for digest, picture in pictures.items() if digest not in known]
    return found


def _known(engine: Engine, root: Path, pictures: Mapping[str, Picture]) -> set[str]:
    """The digests of those that the ledger has. Of a lossy file of ours it has the pixels before they were saved."""
    known, lossy = set[str](), dict[int, list[Picture]]()
    for picture in pictures.values():
        if picture.path.suffix.lower() not in LOSSLESS:
            lossy.setdefault(picture.image["bytes"], []).append(picture)
    for row in adoption.images(engine):
        if row.sha256 in pictures:
            known.add(row.sha256)
        for picture in lossy.get(row.bytes, ()):
            with suppress(OSError):
                if cmp(picture.path, root / row.path, shallow=False):
                    known.add(picture.image["sha256"])
    return known


def _read(path: Path, tags: Mapping[str, str], *, bare: bool) -> Picture | None:
    """A file as an image; None where it says nothing and that is not wanted. Raises PictureUnreadable."""
    with open_picture(path) as image:
        size, digest = image.size, sha256(image.convert("RGB").tobytes()).hexdigest()
    _check_end(path)
    record = read_record(path)
    job = _own_job(record) or _foreign_job(read_recipe(path), size, bare=bare)
    if job is None:
        return None
    told = {recordable(name): recordable(value) for name, value in {**job["tags"], **tags}.items()}
    stat = path.stat()
    facts = {"sha256": digest, "width": size[0], "height": size[1], "bytes": stat.st_size, "created_at": stat.st_mtime}
    named = {"file": recordable(path.name)}
    return Picture(path=path, job={**job, "tags": {**named, **told}}, image={**_making(record), **facts})


def _check_end(path: Path) -> None:
    """A file that goes on behind its picture would be taken for a damaged one, by `promptmill fsck`."""
    tail = ENDS[SUFFIXES[path.suffix.lower()].removeprefix(".")][1]
    with path.open("rb") as file:
        file.seek(-max(1, len(tail)), os.SEEK_END)
        if tail and file.read() != tail:
            raise PictureUnreadable(f"{path} does not end as a picture of its kind does; save it anew.")


def _own_job(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What our own record asks for; None where it is none of ours, or no sound one."""
    try:
        row = row_of_record(record)
    except UNREADABLE:
        return None
    values = structs.asdict(row.parameters)
    del values["num_images"]
    return {
        **values,
        "noise": row.noise,
        "template": _plain_json(row.template),
        "tags": {"tool": "Promptmill", **row.tags},
    }


def _foreign_job(recipe: Recipe | None, size: tuple[int, int], *, bare: bool) -> dict[str, Any] | None:
    if recipe is None and not bare:
        return None
    said = recipe or Recipe(tool="")
    tags = {"tool": said.tool, "schedule": said.schedule, "model_hash": said.model_hash}
    return {
        "prompt": _text(said.prompt, MAX_TEXT),
        "negative_prompt": _text(said.negative_prompt, MAX_TEXT),
        "model": _text(said.model, MAX_TEXT),
        "sampler": _text(said.own_sampler or said.sampler, 64),
        "steps": _whole(said.steps, 2**31 - 1),
        "scale": said.scale or 0.0,
        "width": _whole(said.width, 2**31 - 1) or size[0],
        "height": _whole(said.height, 2**31 - 1) or size[1],
        "seed": _whole(said.seed, MAX_SEED),
        "strength": said.strength or 0.0,
        "eta": 0.0,
        "init_image": None, "mask_image": None, "precision": None, "compat": None, "weights": False, "noise": None,
        "template": None,
        "tags": {name: value[:MAX_TEXT] for name, value in tags.items() if value},
    }  # fmt: skip


def _making(record: Mapping[str, Any]) -> dict[str, Any]:
    """What our own record tells of the making, where it is of the kind."""
    texts = {name: _text(record[name], most) for name, most in TEXTS.items() if isinstance(record.get(name), str)}
    seconds, rows, versions = (record.get(name) for name in ("seconds", "batch_rows", "versions"))
    return {
        **UNSAID,
        **texts,
        "seconds": float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e9 else 0.0,
        "batch_rows": rows if isinstance(rows, int) and 0 < rows < 2**16 else 1,
        "versions": _plain_json(versions) or {},
    }


def _plain_json(value: Any) -> dict[str, Any] | None:
    """The value if it is an object that any database takes: not every one takes NaN."""
    with suppress(ValueError, RecursionError):
        return value if isinstance(value, dict) and len(json.dumps(value, allow_nan=False)) <= MAX_TEXT else None
    return None


def _text(value: str, most: int) -> str:
    return recordable(value)[:most]


def _whole(value: int | None, most: int) -> int:
    return value if value is not None and 0 <= value <= most else 0


def record(ledger: Ledger, root: Path, folder: Path, pictures: list[Picture]) -> int:
    """One batch of all, with their files; returns its number. When anything stops that, nothing of it is left.

    Raises:
        ImportRefused: a file could not be copied.
    """
    name = recordable(folder.resolve().name or "import")
    new = NewBatch(name=name, slug=_free_slug(root, name), source_sha256=_digest(pictures),
                   image_format=FORMATS[SUFFIXES[pictures[0].path.suffix.lower()]], total=len(pictures))  # fmt: skip
    batch_id = ledger.create_batch(new)
    place = root / f"{batch_id:04d}-{new.slug}"
    try:
        place.mkdir(parents=True)
    except OSError as error:
        ledger.discard_batch(batch_id)
        raise ImportRefused(f"Nothing was imported: {place} cannot be made: {error.strerror}.") from error
    try:
        _add_jobs(ledger, batch_id, pictures)
        ids = adoption.job_ids(ledger.engine, batch_id)
        rows = [_place(picture, job_id, place) for picture, job_id in zip(pictures, ids, strict=True)]
        adoption.adopt(ledger.engine, batch_id, rows)
    except BaseException as error:
        ledger.discard_batch(batch_id)
        # It is still there when Ctrl-C came behind the commit.
        if next(inspection.batches(ledger.engine, batch_id), None) is None:
            shutil.rmtree(place, ignore_errors=True)
        if isinstance(error, OSError):
            raise ImportRefused(f"Nothing was imported, since a file could not be copied: {error}.") from error
        raise
    return batch_id


def _free_slug(root: Path, name: str) -> str:
    """One that no folder of the root has: another ledger's files may lie there."""
    wanted = slug(f"import-{name}")
    return f"{wanted[:30].rstrip('-')}-{uuid4().hex[:8]}" if any(root.glob(f"*-{wanted}")) else wanted


def _digest(pictures: Iterable[Picture]) -> str:
    return sha256("".join(picture.image["sha256"] for picture in pictures).encode()).hexdigest()


def _add_jobs(ledger: Ledger, batch_id: int, pictures: list[Picture]) -> None:
    shared = {"batch_id": batch_id, "chunk": 0, "image_index": 0, "priority": 5, "content_key": None}
    jobs = [{**picture.job, **shared, "line": line} for line, picture in enumerate(pictures, 1)]
    for start in range(0, len(jobs), PART):
        ledger.add_jobs(jobs[start : start + PART])


def _place(picture: Picture, job_id: int, place: Path) -> dict[str, Any]:
    """Copy a file to where its image is, whole or not at all; returns the image's row."""
    name = f"{job_id:08d}-{picture.job['seed']}{SUFFIXES[picture.path.suffix.lower()]}"
    temporary = place / f".{name}.{uuid4().hex[:8]}.part"
    with picture.path.open("rb") as origin, temporary.open("xb") as copy:
        shutil.copyfileobj(origin, copy)
        copy.flush()
        os.fsync(copy.fileno())
    if temporary.stat().st_size != picture.image["bytes"]:
        raise OSError(f"{picture.path} has changed meanwhile")
    temporary.replace(place / name)
    return {**picture.image, "job_id": job_id, "path": f"{place.name}/{name}"}
