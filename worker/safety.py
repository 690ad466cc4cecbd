"""The safety checker of Stable Diffusion 1.x: how unsafe a picture is, and how one that is gets hidden.

A CLIP vision model gives the direction of the picture's middle square, and seventeen concepts each have a direction
and a threshold. The score is the largest margin of a cosine over its threshold, as diffusers' class computes it and
does not tell: above 0 where that class blacks the picture out.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from configs.checkpoints import checkpoint_path
from configs.settings import Settings
from worker.checkpoints import pick_device, quiet
from worker.errors import CheckpointBroken, CheckpointMissing, refusing
from worker.folder import Folder
from worker.folder_files import read_json
from worker.memory import naming_out_of_memory, release_memory
from worker.sample import Pixels

log = logging.getLogger(__name__)

FILES = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "safety_checker/*.json",
    "safety_checker/*.safetensors",
    "feature_extractor/*.json",
)
"""What is fetched of a repository: the checker's own, or a checkpoint's."""
ADVICE = (
    "set PROMPTMILL_SAFETY_CHECKER to the folder or hub id of one, or of a checkpoint that has one, "
    "such as stable-diffusion-v1-5/stable-diffusion-v1-5"
)
CARE = 0.01
"""By how much the thresholds fall for a picture that needs special care."""


class Normal(NamedTuple):
    """What CLIP was trained to expect of red, green and blue in [0, 1]."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)


class SafetyChecker:
    """Scores pictures. Not thread-safe: the engine's thread owns it."""

    def __init__(self, name: str, model: Any, normal: Normal, device: torch.device, *, visiting: bool = False) -> None:
        """visiting: whether its weights are on the device only while it works."""
        self.name = name
        self._model, self._device, self._visiting = model, device, visiting
        self._side = int(model.config.vision_config.image_size)
        self._mean, self._std = (torch.tensor(numbers).view(3, 1, 1) for numbers in normal)
        self._model.to("cpu" if visiting else device)

    def score(self, pictures: Sequence[Pixels]) -> list[float]:
        """How unsafe pictures of one size are. Raises CheckpointBroken where the checker gives no numbers."""
        try:
            with naming_out_of_memory():
                return self._score(pictures)
        except torch.OutOfMemoryError as error:
            release_memory(error)
            log.warning("Out of memory: the safety checker now runs on the CPU, which is slow.")
            self._device = torch.device("cpu")
            self._model.to(self._device, torch.float32)
            return self._score(pictures)

    def _score(self, pictures: Sequence[Pixels]) -> list[float]:
        with self._present():
            margins = self._margins(pictures)
            if not np.isfinite(margins).all() and self._model.dtype != torch.float32:
                log.warning("The safety checker's numbers became NaN or infinity; from now on it runs in float32.")
                self._model.to(torch.float32)
                margins = self._margins(pictures)
        if not np.isfinite(margins).all():
            raise CheckpointBroken("The safety checker gives NaN instead of a score; download it again.")
        return [round(float(margin), 3) for margin in margins.max(axis=1)]

    @contextmanager
    def _present(self) -> Iterator[None]:
        self._model.to(self._device)
        try:
            yield
        finally:
            if self._visiting:
                self._model.to("cpu")

    @torch.no_grad()
    def _margins(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """The margins of N pictures over the thresholds of the concepts, (N, 17)."""
        model = self._model
        prepared = self._prepare(torch.from_numpy(np.stack(pictures)))
        embeds = model.visual_projection(model.vision_model(prepared.to(self._device, model.dtype))[1])
        special = _margin(embeds, model.special_care_embeds, model.special_care_embeds_weights)
        care = CARE * (special.round(3) > 0).any(axis=1, keepdims=True).astype(np.float32)
        margins = _margin(embeds, model.concept_embeds, model.concept_embeds_weights) + care
        return margins.round(3)

    def _prepare(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, 3) → the middle square as the vision model wants it, (N, 3, side, side)."""
        # The CPU's and CUDA's are the libraries' best kept resizers.
        pixels = pixels.to(self._device if self._device.type == "cuda" else "cpu").permute(0, 3, 1, 2).float()
        shorter = min(pixels.shape[2:])
        size = [length * self._side // shorter for length in pixels.shape[2:]]
        resized = interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 255).round()
        top, left = ((length - self._side) // 2 for length in size)
        square = resized[:, :, top : top + self._side, left : left + self._side] / 255
        return (square - self._mean.to(square.device)) / self._std.to(square.device)


def open_checker(settings: Settings) -> SafetyChecker | None:
    """The checker that the settings name, on their device; None where safety is off. Raises CheckpointRefused."""
    if settings.safety == "off":
        return None
    device, name = pick_device(settings.device), settings.safety_checker or settings.job["model"]
    folder = find_checker(name)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    with quiet():
        model = Folder(folder.parent, {folder.name: StableDiffusionSafetyChecker}).load(dtype)[folder.name]
        checker = SafetyChecker(name, model, _read_normal(folder), device, visiting=settings.offload)
        # Here and not with the first picture it shall be seen that it works.
        checker.score([np.full((64, 64, 3), 128, np.uint8)])
    return checker


def find_checker(name: str) -> Path:
    """The checker's folder, by its own name or that of a checkpoint. Raises CheckpointRefused."""
    place = Path(checkpoint_path(name)).expanduser()
    if not place.exists():
        place = _fetch(name)
    for folder in (place / "safety_checker", place):
        if (folder / "config.json").is_file() and _is_checker(folder):
            return folder.absolute()
    raise CheckpointMissing(f"{name} has no safety checker; {ADVICE}.")


def score(checker: SafetyChecker | None, pictures: Sequence[Pixels | None]) -> list[float | None]:
    """The score of each picture; None without a checker, and of what is no picture."""
    present = [picture for picture in pictures if picture is not None]
    if checker is None or not present:
        return [None] * len(pictures)
    scores = iter(checker.score(present))
    return [None if picture is None else next(scores) for picture in pictures]


def _margin(embeds: Tensor, concepts: Tensor, thresholds: Tensor) -> NDArray[np.float32]:
    cosines = cosine_distance(embeds, concepts)
    found: NDArray[np.float32] = cosines.cpu().float().numpy() - thresholds.cpu().float().numpy()
    return found


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download

    problem = f"There is no file or folder {name!r}, and its safety checker cannot be fetched from the hub"
    with refusing(CheckpointMissing, problem):
        return Path(snapshot_download(name, allow_patterns=list(FILES)))


def _is_checker(folder: Path) -> bool:
    return read_json(folder / "config.json").get("architectures") == [StableDiffusionSafetyChecker.__name__]


def _read_normal(folder: Path) -> Normal:
    """From the image processor beside the checker, if it is there."""
    for path in (folder / "preprocessor_config.json", folder.parent / "feature_extractor" / "preprocessor_config.json"):
        if path.is_file():
            config = read_json(path)
            return Normal(config["image_mean"], config["image_std"])
    return Normal()
