"""What a call of an original script asks for: its flags over the defaults it had, checked as a whole.

The scripts are `txt2img.py` and `img2img.py` of CompVis, and those of the fork that needs less memory, optimizedSD.
"""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from configs.parameters import read_parameter
from configs.samplers import resolve
from producer.errors import RunRefused
from producer.outdir import Outdir
from producer.prompt_lines import Chunk, PromptLine, chunks_in_order, chunks_sorted, read_lines

Compat = Literal["compvis", "optimized"]

PROMPT = "a painting of a virus monster playing guitar"
CHECKPOINT = "models/ldm/stable-diffusion-v1/model.ckpt"
#: Where the fork draws its seeds from: 0 to this.
DRAWN_SEEDS = 1_000_000

ALIKE = {
    "prompt": PROMPT,
    "ddim_steps": 50,
    "ddim_eta": 0.0,
    "n_iter": 1,
    "n_rows": 0,
    "strength": 0.75,
    "precision": "autocast",
}
#: The defaults of each script and mode, by the flags' names.
DEFAULTS: Mapping[tuple[str, Compat], Mapping[str, Any]] = {
    ("txt2img", "compvis"): {
        **ALIKE, "outdir": "outputs/txt2img-samples", "sampler": "DDIM", "n_iter": 2, "n_samples": 3, "scale": 7.5,
        "seed": 42, "H": 512, "W": 512,
    },
    ("img2img", "compvis"): {
        **ALIKE, "outdir": "outputs/img2img-samples", "sampler": "DDIM", "n_samples": 2, "scale": 5.0, "seed": 42,
    },
    ("txt2img", "optimized"): {
        **ALIKE, "outdir": "outputs/txt2img-samples", "sampler": "PLMS", "n_samples": 5, "scale": 7.5,
        "H": 512, "W": 512,
    },
    ("img2img", "optimized"): {
        **ALIKE, "outdir": "outputs/img2img-samples", "sampler": "DDIM", "n_samples": 5, "scale": 7.5,
    },
}  # fmt: skip
#: The samplers each script knows, by the words of its flags.
SAMPLERS: Mapping[tuple[str, Compat], tuple[str, ...]] = {
    ("txt2img", "compvis"): ("ddim", "plms", "dpm_solver"),
    ("img2img", "compvis"): ("ddim",),
    ("txt2img", "optimized"): ("ddim", "plms", "heun", "euler", "euler_a", "dpm2", "dpm2_a", "lms"),
    ("img2img", "optimized"): ("ddim",),
}
PRECISIONS: Mapping[tuple[Compat, str], str | None] = {
    ("compvis", "autocast"): "autocast",
    ("compvis", "full"): "float32",
    # The fork halves the weights where there is a card: so does a worker that is not told otherwise.
    ("optimized", "autocast"): None,
    ("optimized", "full"): "float32",
}
#: Sides of init images are rounded down to multiples of these pixels.
MULTIPLES: Mapping[Compat, int] = {"compvis": 32, "optimized": 64}
LARGEST = 4096
#: The EXIF tag; values above this one say that width and height change places.
ORIENTATION, UPRIGHT = 0x0112, 4


@dataclass(frozen=True, kw_only=True)
class Run:
    """A call of a script, with everything resolved."""

    script: str
    compat: Compat
    chunks: tuple[Chunk, ...]
    file: Path | None
    model: str
    sampler: str
    steps: int
    eta: float
    scale: float
    seed: int
    #: Times all chunks are made, and images of a full chunk.
    n_iter: int
    n_samples: int
    width: int
    height: int
    fixed_code: bool
    precision: str | None
    weights: bool
    init_image: str | None
    strength: float
    image_format: str
    outdir: Outdir


def read_run(script: str, flags: Mapping[str, Any], model: str) -> Run:
    """The run that a script's flags ask for; those that are None take the script's default.

    ``model`` is taken where neither ``--ckpt`` nor the file is there that was its default.

    Raises:
        RunRefused: they ask for what cannot be made.
        InvalidPromptFile: the prompts file cannot be read.
        ConfigError: there is no such checkpoint.
    """
    compat: Compat = flags["compat"]
    values = {**DEFAULTS[script, compat], **{name: value for name, value in flags.items() if value is not None}}
    seed = random.randint(0, DRAWN_SEEDS) if values.get("seed") is None else values["seed"]
    if script == "img2img" and not values.get("init_img"):
        raise RunRefused("img2img needs --init-img, the path of the image to begin with.")
    if values["scale"] < 1:
        raise RunRefused(f"--scale {values['scale']:g} is not a number from 1, which is no guidance, to 100.")
    width, height = _size(values)
    return Run(
        script=script,
        compat=compat,
        chunks=tuple(_chunks(values)),
        file=values.get("from_file"),
        model=_model(values.get("ckpt"), model),
        sampler=_sampler(script, values),
        steps=values["ddim_steps"],
        eta=values["ddim_eta"],
        scale=values["scale"],
        seed=seed,
        n_iter=values["n_iter"],
        n_samples=values["n_samples"],
        width=width,
        height=height,
        fixed_code=values["fixed_code"] and (script, compat) == ("txt2img", "compvis"),
        precision=PRECISIONS[compat, values["precision"]],
        weights=values["weights"],
        init_image=values.get("init_img"),
        strength=values["strength"],
        image_format="jpeg" if values["format"] == "jpg" else "png",
        outdir=_outdir(values),
    )


def _model(ckpt: str | None, model: str) -> str:
    if ckpt and Path(ckpt).suffix in (".ckpt", ".safetensors") and not Path(ckpt).expanduser().is_file():
        raise RunRefused(f"--ckpt {ckpt} does not exist; name a checkpoint file, a diffusers folder, a hub id or demo.")
    found: str = read_parameter("model", ckpt or (CHECKPOINT if Path(CHECKPOINT).is_file() else model))
    return found


def _chunks(values: Mapping[str, Any]) -> list[Chunk]:
    size = values["n_samples"]
    if not values.get("from_file"):
        return [(PromptLine(1, values["prompt"]),) * size]
    lines = read_lines(values["from_file"])
    return chunks_in_order(lines, size) if values["compat"] == "compvis" else chunks_sorted(lines, size)


def _size(values: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height: those given, or an init image's own. The fork takes given ones only together."""
    if values.get("W") and values.get("H"):
        return values["W"], values["H"]
    width, height = _init_size(values["init_img"])
    multiple = MULTIPLES[values["compat"]]
    if min(width, height) < multiple or max(width, height) >= LARGEST + multiple:
        sizes = f"{width}x{height} pixels; sides of {multiple} to {LARGEST} are allowed."
        raise RunRefused(f"--init-img {values['init_img']} has {sizes}")
    return width - width % multiple, height - height % multiple


def _init_size(path: str) -> tuple[int, int]:
    """Width and height of an image as it is to be seen: some are stored lying on their side."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")) as image:
            lying = image.getexif().get(ORIENTATION, 1) > UPRIGHT
            return (image.height, image.width) if lying else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RunRefused(f"--init-img {path} cannot be read as an image: {error}.") from error


def _sampler(script: str, values: Mapping[str, Any]) -> str:
    """The sampler's own name. Of the scripts' switches, ``--dpm_solver`` wins over ``--plms``, as it did."""
    switched = next((name for name in ("dpm_solver", "plms") if values.get(name)), None)
    name = resolve(switched).name if switched else values["sampler"]
    known = {resolve(word).name: word for word in SAMPLERS[script, values["compat"]]}
    if name not in known:
        allowed = " or ".join(known.values())
        raise RunRefused(
            f"{script} --compat {values['compat']} samples with {allowed}, not {name}; `promptmill render` takes any."
        )
    return name


def _outdir(values: Mapping[str, Any]) -> Outdir:
    """The fork saved all single images and never a grid, whatever its flags said."""
    folder = Path(values["outdir"]).expanduser().absolute()
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise RunRefused(f"--outdir {values['outdir']} is not a folder that can be written to; name another.")
    compvis = values["compat"] == "compvis"
    return Outdir(
        folder=str(folder),
        compat=values["compat"],
        singles=not (compvis and values["skip_save"]),
        grid=compvis and not values["skip_grid"],
        columns=values["n_rows"] or values["n_samples"],
    )
