"""What a call of an original script asks for: its flags over the defaults it had, checked as a whole.

The scripts are `txt2img.py` and `img2img.py` of CompVis, and those of the fork that needs less memory, optimizedSD.
"""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.compat import Course, Mode
from configs.errors import InvalidParameter
from configs.parameters import AUTOCAST, conflicts, read_parameter
from configs.roots import Roots
from configs.samplers import resolve
from configs.settings import Settings
from producer.errors import RunRefused
from producer.gpus import visible_gpus
from producer.init_images import check_picture, size_from
from producer.outdir import Outdir, writable_folder
from producer.prompt_lines import Chunk, PromptLine, chunks_in_order, chunks_sorted, read_lines

PROMPT = "a painting of a virus monster playing guitar"
CHECKPOINT = "models/ldm/stable-diffusion-v1/model.ckpt"
#: Where the fork draws its seeds from: 0 to this.
DRAWN_SEEDS = 1_000_000

ALIKE = {
    "prompt": PROMPT, "ddim_steps": 50, "ddim_eta": 0.0, "n_iter": 1, "n_rows": 0, "strength": 0.75,
    "precision": "autocast",
}  # fmt: skip
#: The defaults of each script and mode, by the flags' names.
DEFAULTS: Mapping[tuple[str, Mode], Mapping[str, Any]] = {
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
PRECISIONS: Mapping[tuple[Mode, str], str | None] = {
    ("compvis", "autocast"): AUTOCAST,
    ("compvis", "full"): "float32",
    # The fork halves the weights where there is a card: so does a worker that is not told otherwise.
    ("optimized", "autocast"): None,
    ("optimized", "full"): "float32",
}
#: Parameters that are checked together, and the flags of those that have another name.
ASKED = (
    "compat", "model", "sampler", "steps", "scale", "width", "height", "seed", "init_image", "strength", "eta",
    "weights",
)  # fmt: skip
FLAGS = {
    "model": "ckpt", "steps": "ddim_steps", "width": "W", "height": "H", "init_image": "init-img", "eta": "ddim_eta",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """A call of a script, with everything resolved."""

    script: str
    compat: Mode
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
    #: As the setting of that name.
    noise_threads: int | None
    image_format: str
    outdir: Outdir

    @property
    def course(self) -> Course:
        """What its images share, as far as their noise needs it."""
        return Course(
            mode=self.compat,
            sampler=self.sampler,
            steps=self.steps,
            seed=self.seed,
            n_samples=self.n_samples,
            n_iter=self.n_iter,
            fixed_code=self.fixed_code,
            eta=self.eta,
            strength=self.strength if self.init_image else None,
            threads=self.noise_threads,
        )


def read_run(script: str, flags: Mapping[str, Any], settings: Settings) -> Run:
    """The run that a script's flags ask for; those that are None take the script's default.

    The settings' model is taken where neither ``--ckpt`` nor the file is there that was its default.

    Raises:
        RunRefused: they ask for what cannot be made.
        InvalidPromptFile: the prompts file cannot be read.
        ConfigError: there is no such checkpoint.
    """
    compat: Mode = flags["compat"]
    values = {**DEFAULTS[script, compat], **{name: value for name, value in flags.items() if value is not None}}
    seed = random.randint(0, DRAWN_SEEDS) if values.get("seed") is None else values["seed"]
    if script == "img2img" and not values.get("init_img"):
        raise RunRefused("img2img needs --init-img, the path of the image to begin with.")
    model = choose_model(values.get("ckpt"), settings.job["model"])
    width, height = _size(values, model, settings.roots)
    run = Run(
        script=script,
        compat=compat,
        chunks=tuple(_chunks(values)),
        file=values.get("from_file"),
        model=model,
        sampler=_sampler(flags, values["sampler"]),
        steps=values["ddim_steps"],
        eta=values["ddim_eta"],
        scale=values["scale"],
        seed=seed,
        n_iter=values["n_iter"],
        n_samples=values["n_samples"],
        width=width,
        height=height,
        fixed_code=values["fixed_code"] and (script, compat) == ("txt2img", "compvis"),
        precision=_precision(compat, values["precision"], settings),
        weights=values["weights"],
        init_image=values.get("init_img"),
        strength=values["strength"],
        noise_threads=settings.noise_threads,
        image_format="jpeg" if values["format"] == "jpg" else "png",
        outdir=_outdir(values),
    )
    _refuse(run)
    return run


def choose_model(ckpt: str | None, model: str) -> str:
    """The checkpoint of the flag, else the scripts' own where it is, else the settings'. Raises as `read_run`."""
    if ckpt and Path(ckpt).suffix in (".ckpt", ".safetensors") and not _is_file(ckpt):
        raise RunRefused(
            f"--ckpt {ckpt:.200} does not exist; name a checkpoint file, a diffusers folder, a hub id or demo."
        )
    found: str = read_parameter("model", ckpt or (CHECKPOINT if Path(CHECKPOINT).is_file() else model))
    return found


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # a name no file system takes, or in the home of nobody
        return False


def _precision(compat: Mode, flag: str, settings: Settings) -> str | None:
    """As the job's parameter. Autocast was CUDA's: where the images are made on the CPU, it changed nothing."""
    precision = PRECISIONS[compat, flag]
    here = settings.broker_url is None
    if precision == AUTOCAST and here and settings.device in ("auto", "cpu", "mps"):
        return AUTOCAST if settings.device == "auto" and visible_gpus(os.environ) else None
    return precision


def _chunks(values: Mapping[str, Any]) -> list[Chunk]:
    size = values["n_samples"]
    if not values.get("from_file"):
        return [(PromptLine(1, values["prompt"]),) * size]
    lines = read_lines(values["from_file"])
    return chunks_in_order(lines, size) if values["compat"] == "compvis" else chunks_sorted(lines, size)


def _size(values: Mapping[str, Any], model: str, roots: Roots | None) -> tuple[int, int]:
    """Width and height: those given, or an init image's own. The fork took given ones only together."""
    try:
        check_picture(values.get("init_img"), roots)
        if values.get("W") and values.get("H"):
            return values["W"], values["H"]
        return size_from({"model": model, "compat": values["compat"], "init_image": values["init_img"]})
    except InvalidParameter as error:
        raise RunRefused(f"--init-img: {error}.") from error


def _sampler(flags: Mapping[str, Any], chosen: str) -> str:
    """The sampler's own name. Of the scripts' switches, ``--dpm_solver`` wins over ``--plms``, as it did."""
    switch = next((name for name in ("dpm_solver", "plms") if flags.get(name)), None)
    if switch is None:
        return chosen
    name = resolve(switch).name
    if flags.get("sampler") not in (None, name):
        raise RunRefused(f"--{switch} and --sampler {chosen} contradict each other; give one of the two.")
    return name


def _refuse(run: Run) -> None:
    """Raises RunRefused for what its script could not do, or the checkpoint cannot."""
    row = {**{name: getattr(run, name) for name in ASKED}, "num_images": 1}
    prompts = dict.fromkeys(line.prompt for chunk in run.chunks for line in chunk)
    for prompt in prompts if run.weights else list(prompts)[:1]:
        for parameter, message in conflicts({**row, "prompt": prompt}):
            raise RunRefused(f"--{FLAGS.get(parameter, parameter)}: {message}.")


def _outdir(values: Mapping[str, Any]) -> Outdir:
    """The fork saved all single images and never a grid, whatever its flags said."""
    compvis = values["compat"] == "compvis"
    return Outdir(
        folder=writable_folder(values["outdir"]),
        names=values["compat"],
        singles=not (compvis and values["skip_save"]),
        grid=compvis and not values["skip_grid"],
        columns=values["n_rows"] or values["n_samples"],
    )
