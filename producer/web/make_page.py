"""Pages that make images: from text, from a picture, within a mask; and how far those are that somebody waits for."""

from contextlib import suppress
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Row
from starlette.datastructures import FormData
from starlette.responses import FileResponse, RedirectResponse, Response

from configs.errors import InvalidParameter
from configs.parameters import PRECISIONS
from configs.samplers import known_samplers
from configs.settings import Settings
from db import queries
from db.errors import NotInLedger
from db.ledger import Ledger
from db.measurements import live_workers
from db.search import Query as Asked
from db.search import find, term
from producer.command_line import command_line
from producer.errors import ProducerError
from producer.picture import file_of
from producer.styles import Styles
from producer.web import intake
from producer.web.given import LARGEST_ID, AnId, TheLedger, TheSettings
from producer.web.make_form import (
    FORMATS,
    MOST_TEXT,
    VARIATIONS,
    Faults,
    Kind,
    check_form,
    defaults,
    models,
    recalled,
    strengths,
)  # fmt: skip
from producer.web.page import page
from producer.web.sent import Sent, content_of
from producer.web.tiles import Tile, tile_of
from producer.web.uploads import Uploads, read_crop

router = APIRouter(include_in_schema=False)

#: Images of a batch that the page shows.
MOST_SHOWN = 64
#: What a form says of its pictures.
PICTURE_FIELDS = ("init", "mask", "init_job", "crop_left", "crop_top", "crop_width", "crop_height")
AJob = Annotated[int | None, Query(alias="from", ge=1, le=LARGEST_ID)]
ABatch = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]
AKind = Annotated[Kind, Path()]


@router.get("/")
@router.get("/make")
def make(
    request: Request,
    settings: TheSettings,
    ledger: TheLedger,
    origin: AJob = None,
    batch: ABatch = None,
    model: str = "",
) -> Response:
    """An empty form, or one as a job or a batch was; with the batch, what it has made so far."""
    return _show(request, settings, ledger, "txt2img", origin, batch, model)


@router.get("/make/{kind}")
def make_from(
    request: Request, kind: AKind, settings: TheSettings, ledger: TheLedger, origin: AJob = None, batch: ABatch = None
) -> Response:
    """The same, beginning from a picture; that of a job where one is named."""
    return _show(request, settings, ledger, kind, origin, batch)


def _show(
    request: Request,
    settings: Settings,
    ledger: Ledger,
    kind: Kind,
    origin: int | None,
    batch: int | None,
    model: str = "",
) -> Response:
    made = list(find(ledger.engine, Asked((term("batch", batch),)), limit=MOST_SHOWN, ascending=True)) if batch else []
    job = queries.find_job(ledger.engine, origin) if origin else made[0] if made else None
    given = recalled(job, settings) if job else defaults(settings)
    if model:
        given["model"] = model
    if made:
        # What is made next is something else, unless the seed is asked for.
        given |= {"seed": "", "num_images": str(len(made))}
    uploads = Uploads(settings)
    if job and kind != "txt2img":
        own = made and not origin
        given |= {
            "init": uploads.digest_of(job.init_image) if own else "",
            "mask": uploads.digest_of(job.mask_image) if own else "",
            "init_job": "" if own or not job.image_path else str(job.id),
        }
    return show_form(request, settings, ledger, kind, given, batch=batch, made=made)


def show_form(
    request: Request,
    settings: Settings,
    ledger: Ledger,
    kind: Kind,
    given: dict[str, str],
    *,
    faults: Faults | None = None,
    batch: int | None = None,
    made: list[Row[Any]] | None = None,
) -> Response:
    """The page."""
    offered = models(settings)
    shown: dict[str, Any] = {"models": offered, "faces": _faces(ledger, offered), "samplers": known_samplers()}
    shown |= {"formats": FORMATS, "precisions": tuple(PRECISIONS), "styles": _styles(settings)}
    shown |= {"tiles": [(tile_of(row), command_line(row)) for row in made or ()], "batch": batch}
    shown |= {
        "waits": any(not row.state.is_final for row in made or ()),
        "has_worker": bool(live_workers(ledger.engine)),
    }
    faults = faults or Faults()
    given = {**defaults(settings), **dict.fromkeys(PICTURE_FIELDS, ""), **given}
    status = 422 if faults.fields or faults.whole else 200
    return page(request, "make.html", status=status, nav="make", kind=kind, given=given, faults=faults, **shown)


@router.post("/make/{kind}")
def take(request: Request, kind: AKind, settings: TheSettings, ledger: TheLedger, sent: Sent) -> Response:
    """Submit, and lead to the page that shows the pictures as they come."""
    given = {name: value[:MOST_TEXT] for name, value in sent.items() if isinstance(value, str)}
    try:
        pictures = _pictures(given, sent, settings, ledger, kind)
        kept = Uploads(settings)
        checked = check_form(given, settings, kind, {name: kept.path(digest) for name, digest in pictures.items()})
    except Faults as faults:
        return show_form(request, settings, ledger, kind, given, faults=faults)
    batch = intake.enqueue(checked, ledger, settings).batch
    return RedirectResponse(f"{_address(kind)}?batch={batch.id}", 303)


@router.post("/make/{kind}/variations/{job_id}")
def vary(kind: AKind, job_id: AnId, settings: TheSettings, ledger: TheLedger) -> Response:
    """Images like that of a job, by other seeds; from a picture, by other strengths as well."""
    job = queries.find_job(ledger.engine, job_id)
    given = {**recalled(job, settings), "seed": "", "num_images": "1" if job.init_image else str(VARIATIONS)}
    pictures = {}
    for name in ("init_image", "mask_image"):
        if path := getattr(job, name):
            # It was admitted when it was submitted, and is once more here.
            pictures[name] = FilePath(path)
    try:
        checked = check_form(given, settings, kind, pictures, strengths(job.strength) if job.init_image else "")
    except Faults as faults:
        said = [f"{name}: {message}" for name, message in faults.fields.items()]
        raise InvalidParameter(f"{'; '.join([*faults.whole, *said])}.") from faults
    batch = intake.enqueue(checked, ledger, settings).batch
    return RedirectResponse(f"{_address(kind)}?batch={batch.id}", 303)


@router.get("/make/upload/{digest}.png")
def upload(digest: str, settings: TheSettings) -> Response:
    """A picture that was sent, as it is kept."""
    try:
        path = Uploads(settings).path(digest)
    except InvalidParameter as error:
        raise NotInLedger("There is no such picture here.") from error
    return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})


def _address(kind: Kind) -> str:
    return "/make" if kind == "txt2img" else f"/make/{kind}"


def _pictures(given: dict[str, str], sent: FormData, settings: Settings, ledger: Ledger, kind: Kind) -> dict[str, str]:
    """The digests of what a job begins from; ``given`` has them then, for a form that must be shown again.

    Raises Faults.
    """
    if kind == "txt2img":
        return {}
    uploads, faults, found = Uploads(settings), Faults(), dict[str, str]()
    try:
        given["init"] = _init(given, sent, uploads, settings, ledger)
        given["init_job"] = ""
        crop = read_crop(given) if kind == "img2img" else None
        found["init_image"] = uploads.copy(uploads.path(given["init"]), crop=crop) if crop else given["init"]
    except InvalidParameter as error:
        faults.fields["init_image"] = str(error)
    if kind == "inpaint":
        try:
            given["mask"] = found["mask_image"] = _mask(given, sent, uploads)
        except InvalidParameter as error:
            faults.fields["mask_image"] = str(error)
    if faults.fields:
        raise faults
    return found


def _init(given: dict[str, str], sent: FormData, uploads: Uploads, settings: Settings, ledger: Ledger) -> str:
    if content := content_of(sent, "init_file"):
        return uploads.take(content)
    if given.get("init"):
        uploads.path(given["init"])
        return given["init"]
    if number := queries.id_of(given.get("init_job", "")):
        path = file_of(queries.find_job(ledger.engine, number), settings.images_root)
        if path and path.is_file():
            return uploads.copy(path)
    raise InvalidParameter("is missing; choose a picture to begin from")


def _mask(given: dict[str, str], sent: FormData, uploads: Uploads) -> str:
    if content := content_of(sent, "mask_file"):
        return uploads.take(content, "L")
    if given.get("mask"):
        uploads.path(given["mask"])
        return given["mask"]
    raise InvalidParameter("is missing; paint over what is to be made anew, or choose a file")


def _styles(settings: Settings) -> list[str]:
    # A file that cannot be read is told of when somebody asks for a style of it.
    with suppress(ProducerError):
        return Styles(settings.styles).names() if settings.styles else []
    return []


def _faces(ledger: Ledger, offered: list[str]) -> list[tuple[str, Tile]]:
    """The newest picture of each model that has made some."""
    faces = []
    for model in offered[:12]:
        newest = find(ledger.engine, Asked((term("model", model), term("state", "succeeded"))), limit=1)
        faces += [(model, tile_of(row)) for row in newest]
    return faces
