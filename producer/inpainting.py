"""What a call of `promptmill inpaint` asks for: pictures with holes, and what is to be in these.

The original's inpaint.py takes a folder of pairs, ``NAME.png`` and ``NAME_mask.png``, and has a model without a prompt.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from configs.errors import InvalidParameter
from configs.init_images import picture_size
from configs.parameters import Parameters, conflicts, read_parameter
from configs.roots import Roots
from configs.settings import Settings
from db.ledger import NewBatch
from producer.errors import InvalidPromptFile, RunRefused
from producer.init_images import check_picture, size_from
from producer.long_prompts import losses
from producer.originals import choose_model
from producer.outdir import Outdir, writable_folder
from producer.problems import Report
from producer.prompts import WARNINGS, Row
from producer.submit import Submission, slug

MASK = "_mask.png"
#: The flags of parameters that have another name.
FLAGS = {"init_image": "init-img", "mask_image": "mask", "model": "ckpt"}
#: Without a prompt there is nothing for guidance to lead to: both its halves would be the same.
SCALE, UNGUIDED = 7.5, 1.0


class Pair(NamedTuple):
    """The files of one picture."""

    init_image: str
    mask_image: str


@dataclass(frozen=True)
class Inpainting:
    """A call with everything resolved: a row for each pair, as often as they are wanted."""

    label: str
    parameters: tuple[Parameters, ...]
    outdir: Outdir

    @cached_property
    def warnings(self) -> Report:
        """Of the prompt, which all share, and of masks that are of another size than their picture."""
        report = Report(self.label, WARNINGS)
        for name, loss in losses(self.parameters[0]):
            report.add(0, name, loss)
        for row in self.parameters:
            picture, mask = (picture_size(str(path)) for path in (row.init_image, row.mask_image))
            if picture != mask:
                sizes = f"has {mask[0]}x{mask[1]} pixels and its picture {picture[0]}x{picture[1]}"
                report.add(0, Path(str(row.mask_image)).name, f"{sizes}; it is stretched")
        return report

    def rows(self) -> Iterator[Row]:
        for number, parameters in enumerate(self.parameters, 1):
            yield Row(number, parameters, {})

    def submission(self, chunk_size: int) -> Submission:
        """What is to be recorded."""
        name = Path(self.label).resolve().name
        total = sum(row.num_images for row in self.parameters)
        batch = NewBatch(name=name, slug=slug(name), source_sha256=self._digest(), image_format="png", total=total)
        return Submission(prompts=self, batch=batch, chunk_size=chunk_size)

    def remarks(self) -> Iterator[str]:
        """What takes the place of the original's model."""
        yield (
            f"The model of inpaint.py took no prompt; here {self.parameters[0].model} fills the masks, as --prompt "
            "says. A Stable Diffusion checkpoint made for inpainting does it best: name it with --ckpt."
        )

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for row in self.parameters:
            digest.update(f"{row.prompt}\n{row.init_image}\n{row.mask_image}\n".encode())
        return digest.hexdigest()


def read_inpainting(flags: Mapping[str, Any], settings: Settings) -> Inpainting:
    """The pictures that the flags name, checked as a whole.

    Raises:
        RunRefused: they name none, or ask for what cannot be made.
        InvalidPromptFile: pictures may not or cannot be read, or are too small or too large.
        ConfigError: there is no such checkpoint.
    """
    pairs, prompt, scale = _pairs(flags), flags["prompt"], flags["scale"]
    shared = {
        "prompt": prompt,
        "model": choose_model(flags["ckpt"], settings.job["model"]),
        "sampler": flags["sampler"],
        "steps": flags["steps"],
        "scale": (SCALE if prompt else UNGUIDED) if scale is None else scale,
        "seed": flags["seed"],
        "num_images": flags["n_samples"],
        "strength": flags["strength"],
        "eta": 0.0,
    }
    label = str(flags["indir"] or "inpaint")
    rows = _rows(pairs, shared, settings.roots, Report(label, 100))
    _refuse(rows[0])
    outdir = Outdir(folder=writable_folder(flags["outdir"]), names="init_image", grid=False)
    return Inpainting(label, rows, outdir)


def _pairs(flags: Mapping[str, Any]) -> Sequence[Pair]:
    """Raises RunRefused."""
    indir, init_image, mask_image = flags["indir"], flags["init_img"], flags["mask"]
    if indir and (init_image or mask_image):
        raise RunRefused("--indir names pictures of its own; give it alone, or --init-img with --mask.")
    if indir:
        return list(_pairs_in(Path(indir)))
    if init_image and mask_image:
        return [Pair(init_image, mask_image)]
    raise RunRefused("inpaint needs --init-img with --mask, or --indir with pairs of NAME.png and NAME_mask.png.")


def _pairs_in(folder: Path) -> Iterator[Pair]:
    """In the order of their names. Raises RunRefused."""
    try:
        masks = sorted(str(path) for path in folder.iterdir() if path.name.endswith(MASK))
    except OSError as error:
        raise RunRefused(f"--indir {folder}: {error.strerror or error}; name a folder.") from error
    if not masks:
        raise RunRefused(f"--indir {folder} has no pair of files such as cat.png and cat_mask.png.")
    for mask in masks:
        try:
            yield Pair(*(read_parameter("init_image", path) for path in (f"{mask.removesuffix(MASK)}.png", mask)))
        except InvalidParameter as error:
            raise RunRefused(f"--indir {folder}: {error}.") from error


def _rows(
    pairs: Sequence[Pair], shared: Mapping[str, Any], roots: Roots | None, report: Report
) -> tuple[Parameters, ...]:
    """Each pair with the size of its picture. Raises InvalidPromptFile for all pairs that give none."""
    rows = []
    for pair in pairs:
        row = {**shared, **pair._asdict()}
        try:
            for picture in pair:
                check_picture(picture, roots)
            row["width"], row["height"] = size_from(row)
        except InvalidParameter as error:
            report.add(0, Path(pair.init_image).name, str(error))
        else:
            rows.append(Parameters(**row))
    if report.total:
        raise InvalidPromptFile(report.problems, report.total)
    return tuple(rows)


def _refuse(row: Parameters) -> None:
    """Raises RunRefused for what the checkpoint cannot; the rows differ in what cannot be wrong."""
    for parameter, message in conflicts(structs.asdict(row)):
        raise RunRefused(f"--{FLAGS.get(parameter, parameter)}: {message}.")
