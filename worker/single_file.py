"""Single files: Stable Diffusion 1.x, 2.x and XL in the layout of the original scripts, opened without a network.

Such a file holds weights alone. The configurations of the families are shipped; the file's own keys and shapes tell
which it is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from configs.checkpoints import Way
from worker.errors import CheckpointBroken, refusing
from worker.families import Family, read_config
from worker.tokenizer import ClipVocabulary

ABSENT = ("tokenizer", "tokenizer_2", "scheduler", "safety_checker", "feature_extractor", "image_encoder")
"""Components of the pipelines that no file holds."""


def load_single_file(path: Path, family: Family, header: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Models and tokenizers by their names in a diffusers folder, and the fields of a checkpoint beside them.

    EMA weights beside the others are left alone. Raises CheckpointBroken.
    """
    names = ("tokenizer", "tokenizer_2")
    tokenizers = {name: ClipVocabulary(pad) for name, pad in zip(names, family.pads, strict=False)}
    models = _load(path, family, dtype)
    scheduler_config = read_config(family.folder / "scheduler" / "scheduler_config.json")
    scheduler_config.update(_noise(header))
    if family.way is Way.SD and scheduler_config["prediction_type"] == "v_prediction":
        scheduler_config["prediction_type"] = "v_prediction" if predicts_velocity(models["unet"]) else "epsilon"
    zeros = read_config(family.folder / "model_index.json").get("force_zeros_for_empty_prompt", False)
    return {**models, **tokenizers, "scheduler_config": scheduler_config, "zeros_for_empty": zeros}


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


def _noise(header: Mapping[str, Any]) -> dict[str, Any]:
    """What empty tensors of some fine-tuned SDXL say of the noise schedule: a custom that ComfyUI and Forge share."""
    config: dict[str, Any] = {"prediction_type": "v_prediction"} if "v_pred" in header else {}
    return {**config, "rescale_betas_zero_snr": True} if "ztsnr" in header else config


def _load(path: Path, family: Family, dtype: torch.dtype) -> dict[str, Any]:
    # Importing a pipeline complains of image processors that are not needed: only once it is quiet.
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    pipeline_class = StableDiffusionXLPipeline if family.way is Way.SDXL else StableDiffusionPipeline
    absent = {name: None for name in read_config(family.folder / "model_index.json") if name in ABSENT}
    options = {"config": str(family.folder), "local_files_only": True, "torch_dtype": dtype, **absent}
    with refusing(CheckpointBroken, f"{path} cannot be loaded as {family.folder.name}"):
        try:
            pipeline = pipeline_class.from_single_file(str(path), **options)
        except NotImplementedError as error:
            raise CheckpointBroken(f"{path} lacks weights of the UNet or the VAE; download it again.") from error
    models = {name: getattr(pipeline, name) for name in family.models}
    for name, model in models.items():
        if name.startswith("text_encoder"):
            _refuse_missing(path, model)
    return models


def _refuse_missing(path: Path, text_encoder: torch.nn.Module) -> None:
    """A weight the file lacks is left without memory. Of the other models that is found in moving them."""
    for key, tensor in text_encoder.state_dict().items():
        if tensor.is_meta:
            raise CheckpointBroken(f"{path} lacks weights of the text encoder, {key} for one; download it again.")
