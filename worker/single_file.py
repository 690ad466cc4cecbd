"""Single files: Stable Diffusion 1.x and 2.x in the layout of the original scripts, opened without a network.

Such a file holds weights alone. The configurations of the two families are shipped; the file's own keys and shapes
tell which it is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.checkpoints import SHIPPED
from worker.errors import CheckpointBroken, CheckpointUnsupported, refusing
from worker.tokenizer import END, ClipVocabulary

UNET, EMA = "model.diffusion_model.", "model_ema."
PARTS = (UNET, "first_stage_model.", "cond_stage_model.")
"""What Stable Diffusion 1.x and 2.x have; SDXL, SD3 and Flux have not all of it."""
FIRST_LAYER = UNET + "input_blocks.0.0.weight"
CROSS_ATTENTION = UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
MODELS = ("text_encoder", "unet", "vae")


@dataclass(frozen=True, slots=True)
class Family:
    """What all files of one architecture have in common."""

    folder: Path
    """The configurations, as in a diffusers folder."""
    pad: int = END
    """The token that fills up a short prompt."""


FAMILIES = {768: Family(SHIPPED / "sd-v1"), 1024: Family(SHIPPED / "sd-v2", pad=0)}
"""By the width of the text embeddings."""


def find_family(path: Path, header: Mapping[str, Any]) -> Family:
    """The family of a file, by its header. Raises CheckpointUnsupported."""
    if any(key.startswith(EMA) for key in header) and FIRST_LAYER not in header:
        raise CheckpointUnsupported(
            f"{path} has only the averaged (EMA) weights of training; get the file that is made for use."
        )
    shapes = [header.get(key, {}).get("shape", []) for key in (FIRST_LAYER, CROSS_ATTENTION)]
    if not all(any(key.startswith(part) for key in header) for part in PARTS) or not all(shapes):
        raise CheckpointUnsupported(
            f"{path} is no full Stable Diffusion 1.x or 2.x checkpoint (UNet, VAE and text encoder)."
        )
    family = FAMILIES.get(shapes[1][-1])
    if family is None:
        raise CheckpointUnsupported(
            f"{path} has text embeddings of width {shapes[1][-1]}; Stable Diffusion 1.x has 768, 2.x has 1024."
        )
    if shapes[0][1:2] != [_read(family.folder / "unet" / "config.json")["in_channels"]]:
        raise CheckpointUnsupported(f"{path} is made for inpainting or depth; use a text-to-image checkpoint.")
    return family


def load_single_file(path: Path, family: Family, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    """The models with their tokenizer, and the scheduler's configuration. EMA weights beside the others are left alone.

    Raises CheckpointBroken; CheckpointMissing without a tokenizer.
    """
    tokenizer = ClipVocabulary(family.pad)
    models = _load(path, family, dtype)
    scheduler_config = _read(family.folder / "scheduler" / "scheduler_config.json")
    if scheduler_config["prediction_type"] == "v_prediction" and not predicts_velocity(models["unet"]):
        scheduler_config["prediction_type"] = "epsilon"
    return {**models, "tokenizer": tokenizer}, scheduler_config


@torch.no_grad()
def predicts_velocity(unet: Any) -> bool:
    """Whether a UNet of Stable Diffusion 2.x predicts velocity, which no file says, or noise.

    At the last timestep the input is nearly all noise: a noise prediction is near the input, a velocity far below it.
    The probe and its limit are those of AUTOMATIC1111's web UI.
    """
    latents = torch.full((1, unet.config.in_channels, 8, 8), 0.5, dtype=unet.dtype)
    text = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, dtype=unet.dtype)
    prediction = unet(latents, 999, encoder_hidden_states=text, return_dict=False)[0]
    return bool((prediction - latents).float().mean() < -1)


def _load(path: Path, family: Family, dtype: torch.dtype) -> dict[str, Any]:
    # Importing a pipeline complains of image processors that are not needed: only once it is quiet.
    from diffusers import StableDiffusionPipeline

    absent = dict.fromkeys(("tokenizer", "scheduler", "safety_checker", "feature_extractor", "image_encoder"))
    options = {"config": str(family.folder), "local_files_only": True, "torch_dtype": dtype, **absent}
    with refusing(CheckpointBroken, f"{path} cannot be loaded as {family.folder.name}"):
        try:
            pipeline = StableDiffusionPipeline.from_single_file(str(path), **options)
        except NotImplementedError as error:
            raise CheckpointBroken(f"{path} lacks weights of the UNet or the VAE; download it again.") from error
    models = {name: getattr(pipeline, name) for name in MODELS}
    _refuse_missing(path, models["text_encoder"])
    return models


def _refuse_missing(path: Path, text_encoder: torch.nn.Module) -> None:
    """A weight the file lacks is left without memory. Of the other models that is found in moving them."""
    for key, tensor in text_encoder.state_dict().items():
        if tensor.is_meta:
            raise CheckpointBroken(f"{path} lacks weights of the text encoder, {key} for one; download it again.")


def _read(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config
