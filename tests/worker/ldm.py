"""A diffusers checkpoint written as the original scripts did: the reverse of what diffusers does on opening, by hand.

Layouts: ldm/modules/diffusionmodules/openaimodel.py and model.py of the CompVis repository, and OpenCLIP's text tower.
"""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from configs.clip import END, START

Tensors = dict[str, Tensor]
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
OPEN_CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def write_single_file(folder: Path, path: Path, *, open_clip: bool = False, **extra: Tensor) -> None:
    """Write a diffusers folder with one layer a block as a safetensors file; `extra` are further tensors by name."""
    tensors = single_file_tensors(folder, open_clip=open_clip)
    save_file({key: tensor.contiguous() for key, tensor in (tensors | extra).items()}, path)


def write_ckpt(folder: Path, path: Path, **beside: Any) -> None:
    """The same as PyTorch Lightning has left it, with EMA weights of half the size; `beside` lies by the state dict."""
    tensors = single_file_tensors(folder)
    ema = {ema_key(key): tensor / 2 for key, tensor in tensors.items() if key.startswith("model.")}
    training = {"betas": torch.ones(1000), "model_ema.decay": torch.tensor(0.9999)}
    state_dict = OrderedDict({**tensors, **ema, **training})
    torch.save({"epoch": 0, "global_step": 470000, "state_dict": state_dict, **beside}, path)


def save_tiny_parts(folder: Path) -> Path:
    """The models of a small Stable Diffusion 1.x as in a diffusers folder, and nothing else: 4 pixels a latent."""
    torch.manual_seed(0)
    blocks = {"block_out_channels": (32, 64), "layers_per_block": 1}
    unet = UNet2DConditionModel(
        **blocks,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
    )
    with torch.no_grad():
        unet.conv_out.weight.mul_(20)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )
    text = CLIPTextConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1, projection_dim=64,
        bos_token_id=START, eos_token_id=END,
    )  # fmt: skip
    for name, model in {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel(text)}.items():
        model.save_pretrained(folder / name)
    return folder


def ema_key(key: str) -> str:
    """How ldm/modules/ema.py names the average of a weight."""
    return "model_ema." + key.removeprefix("model.").replace(".", "")


def single_file_tensors(folder: Path, *, open_clip: bool = False) -> Tensors:
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    crossed = {key.split(".")[1] for key in unet if re.match(r"up_blocks\.\d\.attentions", key)}
    parts = {
        "model.diffusion_model": {unet_key(key, crossed): tensor for key, tensor in unet.items()},
        "first_stage_model": dict(vae_entry(key, tensor) for key, tensor in vae.items()),
        **text_parts(folder, open_clip=open_clip),
    }
    return {f"{part}.{key}": tensor for part, named in parts.items() for key, tensor in named.items()}


def text_parts(folder: Path, *, open_clip: bool) -> dict[str, Tensors]:
    """One text encoder, or the two of SDXL."""
    encoders = [load_file(path) for path in sorted(folder.glob("text_encoder*/model.safetensors"))]
    first, *others = [{key.removeprefix("text_model."): tensor for key, tensor in text.items()} for text in encoders]
    clip = open_clip_text(first) if open_clip else {f"transformer.text_model.{key}": first[key] for key in first}
    if not others:
        return {"cond_stage_model": clip}
    return {"conditioner.embedders.0": clip, "conditioner.embedders.1": open_clip_text(others[0])}


def rename(key: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        if key.startswith(ours + "."):
            return theirs + key.removeprefix(ours)
    return key


def unet_key(key: str, crossed: set[str]) -> str:
    """Input blocks count resnets and downsamplers together, output blocks resnets alone."""
    if block := re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", key):
        way, number, kind, layer = block[1], int(block[2]), block[3], int(block[4])
        if way == "down":
            place = f"input_blocks.{1 + 2 * number + (layer if kind != 'downsamplers' else 1)}"
        else:
            place = f"output_blocks.{2 * number + (layer if kind != 'upsamplers' else 1)}"
        return f"{place}.{within_block(kind, block[5], crossed=block[2] in crossed)}"
    if middle := re.fullmatch(r"mid_block\.(\w+)\.(\d)\.(.+)", key):
        if middle[1] == "attentions":
            return f"middle_block.1.{middle[3]}"
        return f"middle_block.{2 * int(middle[2])}.{rename(middle[3], RESNET)}"
    return rename(key, UNET_ENDS)


def within_block(kind: str, rest: str, *, crossed: bool) -> str:
    """`crossed`: the output block has an attention, behind which the upsampler stands."""
    if kind == "resnets":
        return f"0.{rename(rest, RESNET)}"
    if kind == "attentions":
        return f"1.{rest}"
    return f"0.op{rest.removeprefix('conv')}" if kind == "downsamplers" else f"{2 if crossed else 1}.{rest}"


def vae_entry(key: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Three blocks; the decoder's are counted from the other end. Attention was convolution of size one."""
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{2 - int(m[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{2 - int(m[1])}.upsample", key)
    if attention := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)", key):
        key = f"{attention[1]}.mid.attn_1.{rename(attention[2], VAE_ATTENTION)}"
        tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
    return key, tensor


def open_clip_text(text: Tensors) -> Tensors:
    """OpenCLIP stacks query, key and value, and carries a last layer that Stable Diffusion 2.x does not use."""
    tensors = {"model." + new: text[old] for old, new in OPEN_CLIP_ENDS.items()}
    for key, tensor in text.items():
        layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", key)
        if layer and not re.search(r"[qkv]_proj", key):
            name = rename(layer[2], {**OPEN_CLIP, "self_attn.out_proj": "attn.out_proj"})
            tensors[f"model.transformer.resblocks.{layer[1]}.{name}"] = tensor
        elif layer and ".q_proj." in key:
            stacked = torch.cat([text[key.replace("q_proj", f"{part}_proj")] for part in "qkv"])
            tensors[f"model.transformer.resblocks.{layer[1]}.attn.in_proj_{key.rpartition('.')[2]}"] = stacked
    width = text["final_layer_norm.weight"].numel()
    projection = text.get("text_projection.weight", torch.eye(width)).T
    return {**tensors, "model.text_projection": projection, "model.logit_scale": torch.zeros(())}
