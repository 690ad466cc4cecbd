"""Single files: Stable Diffusion 1.x, 2.x and XL in the layout of the original scripts, opened without a network.

Such a file holds weights alone. The configurations of the families are shipped; the file's own keys and shapes tell
which it is.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    create_diffusers_clip_model_from_ldm,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from configs.checkpoints import Way
from worker.errors import CheckpointBroken, refusing
from worker.families import FIRST_LAYER, Family, read_config
from worker.tokenizer import ClipVocabulary
from worker.weight_file import WeightFile

Weights: TypeAlias = dict[str, torch.Tensor]
MODELS: Mapping[str, Any] = {
    "unet": (UNet2DConditionModel, convert_ldm_unet_checkpoint),
    "vae": (AutoencoderKL, convert_ldm_vae_checkpoint),
}
"""Classes, and what gives weights the names they have there."""
TEXTS: Mapping[str, Any] = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
MISNAMED = re.compile(r"^(cond_stage_model\.transformer\.)(?=embeddings|encoder|final_layer)")
"""How some merged checkpoints name the text encoder's weights, without `text_model`."""


def load_single_file(file: WeightFile, family: Family, dtype: torch.dtype) -> dict[str, Any]:
    """Models and tokenizers by their names in a diffusers folder, and the fields of a checkpoint beside them.

    EMA weights beside the others are left alone, as the original scripts do (`use_ema: False`).
    Raises CheckpointBroken.
    """
    names = ("tokenizer", "tokenizer_2")
    tokenizers = {name: ClipVocabulary(pad) for name, pad in zip(names, family.pads, strict=False)}
    models = {name: _load(file, family, name, dtype) for name in family.models}
    scheduler_config = read_config(family.folder / "scheduler" / "scheduler_config.json")
    scheduler_config.update(_noise(file.header))
    if family.way is Way.SD and scheduler_config["prediction_type"] == "v_prediction":
        scheduler_config["prediction_type"] = "v_prediction" if predicts_velocity(models["unet"]) else "epsilon"
    zeros = read_config(family.folder / "model_index.json").get("force_zeros_for_empty_prompt", False)
    return {**models, **tokenizers, "scheduler_config": scheduler_config, "zeros_for_empty": zeros}


@torch.no_grad()
def predicts_velocity(unet: Any) -> bool:
    """Whether a UNet of Stable Diffusion 2.x predicts velocity, which no file says, or noise.

    At the last timestep the input is nearly all noise: a noise prediction is near the input, a velocity far below it.
    The probe and its limit are those of AUTOMATIC1111's web UI. The one for inpainting predicts noise.
    """
    if unet.config.in_channels != unet.config.out_channels:
        return False
    latents = torch.full((1, unet.config.in_channels, 8, 8), 0.5, dtype=unet.dtype)
    text = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, dtype=unet.dtype)
    prediction = unet(latents, 999, encoder_hidden_states=text, return_dict=False)[0]
    return bool((prediction - latents).float().mean() < -1)


def _noise(header: Mapping[str, Any]) -> dict[str, Any]:
    """What empty tensors of some fine-tuned SDXL say of the noise schedule: a custom that ComfyUI and Forge share."""
    config: dict[str, Any] = {"prediction_type": "v_prediction"} if "v_pred" in header else {}
    return {**config, "rescale_betas_zero_snr": True} if "ztsnr" in header else config


def _load(file: WeightFile, family: Family, name: str, dtype: torch.dtype) -> Any:
    """One model. A weight that the file lacks is an error, not a random number."""
    weights = {
        MISNAMED.sub(r"\1text_model.", key): file.read(key).to(dtype)
        for key in file.header
        if key.startswith(family.prefixes[name])
    }
    with refusing(CheckpointBroken, f"The {name} of {file.path} cannot be loaded as that of {family.folder.name}"):
        config = family.config(name, file.header)
        if name in MODELS:
            model = _make_model(name, config, weights)
        else:
            model = _make_text_encoder(family, name, config, weights)
    for key, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise CheckpointBroken(f"{file.path} lacks weights of the {name}, {key} for one; download it again.")
    return model


def _make_text_encoder(family: Family, name: str, config: dict[str, Any], weights: Weights) -> Any:
    """Here and below, what the weights lack is left without memory."""
    if not family.other_size:
        options = {"config": str(family.folder), "subfolder": name, "local_files_only": True}
        return create_diffusers_clip_model_from_ldm(TEXTS[name], weights, **options)
    with init_empty_weights():
        model = TEXTS[name](CLIPTextConfig(**config))
    named = convert_ldm_clip_checkpoint(weights)
    # Newer releases of transformers have left this part out.
    part = "" if hasattr(model, "text_model") else "text_model."
    model.load_state_dict({key.removeprefix(part): named[key] for key in named}, strict=False, assign=True)
    return model


def _make_model(name: str, config: dict[str, Any], weights: Weights) -> Any:
    model_class, rename = MODELS[name]
    if name == "unet":
        # Those for inpainting have more than their family.
        config["in_channels"] = weights[FIRST_LAYER].shape[1]
    with init_empty_weights():
        model = model_class.from_config(config)
    model.load_state_dict(rename(weights, config=model.config), strict=False, assign=True)
    return model
