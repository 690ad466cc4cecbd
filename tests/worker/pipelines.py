"""Tiny pipelines with random weights: the real classes, saved as diffusers folders; and plain calls of them."""

import copy
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from configs import samplers
from worker.checkpoints import Checkpoint
from worker.renderer import Renderer
from worker.sample import Sample

KINDS: Mapping[tuple[bool, int], Any] = {
    (False, 0): StableDiffusionPipeline,
    (False, 1): StableDiffusionImg2ImgPipeline,
    (False, 2): StableDiffusionInpaintPipeline,
    (True, 0): StableDiffusionXLPipeline,
    (True, 1): StableDiffusionXLImg2ImgPipeline,
    (True, 2): StableDiffusionXLInpaintPipeline,
}
"""By whether it is an SDXL, and how many pictures it begins from."""
VOCABULARY = 190
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def make_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """One token a letter."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    return CLIPTokenizer(*files, model_max_length=77, pad_token=pad)


def clip_config(width: int, projection: int = 32) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=projection,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=VOCABULARY - 1,
    )


def make_vae(channels: int = 4, **options: Any) -> AutoencoderKL:
    """Four pixels a latent."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        **options,
    )


def make_unet(**options: Any) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        attention_head_dim=4,
        norm_num_groups=8,
        **options,
    )
    # Random weights predict next to nothing: without this every trajectory is the same.
    with torch.no_grad():
        unet.conv_out.weight.mul_(20)
    return unet


def save_sd(folder: Path, *, channels: int = 4, linear: bool = False, inpainting: bool = False, **noise: Any) -> Path:
    """A Stable Diffusion; linear: as in 2.x; inpainting: whose UNet sees masks; noise: options of its scheduler."""
    torch.manual_seed(0)
    (StableDiffusionInpaintPipeline if inpainting else StableDiffusionPipeline)(
        unet=make_unet(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            use_linear_projection=linear,
            in_channels=2 * channels + 1 if inpainting else channels,
            out_channels=channels,
        ),
        vae=make_vae(channels, scaling_factor=0.5),
        text_encoder=CLIPTextModel(clip_config(32)),
        tokenizer=make_tokenizer(folder.with_name(f"{folder.name}-letters")),
        scheduler=DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, **noise),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, *, inpainting: bool = False, **options: Any) -> Path:
    """An SDXL; options: of the pipeline."""
    torch.manual_seed(0)
    (StableDiffusionXLInpaintPipeline if inpainting else StableDiffusionXLPipeline)(
        unet=make_unet(
            in_channels=9 if inpainting else 4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=32 + 40,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=40 + 6 * 8,
        ),
        vae=make_vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=CLIPTextModel(clip_config(32)),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(40, projection=40)),
        tokenizer=make_tokenizer(folder.with_name(f"{folder.name}-letters")),
        tokenizer_2=make_tokenizer(folder.with_name(f"{folder.name}-letters-2"), pad="!"),
        scheduler=EulerDiscreteScheduler(**NOISE),
        add_watermarker=False,
        **options,
    ).save_pretrained(folder)
    return folder


def make_t5_tokenizer(folder: Path) -> T5TokenizerFast:
    """One token a letter."""
    letters = [(chr(code), -5.0) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *letters]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = Metaspace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return T5TokenizerFast.from_pretrained(folder, extra_ids=0, model_max_length=77)


def make_t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4))


def save_sd3(folder: Path) -> Path:
    """A Stable Diffusion 3."""
    torch.manual_seed(0)
    letters = [folder.with_name(f"{folder.name}-letters-{i}") for i in range(3)]
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=16,
        ),
        vae=make_vae(16, shift_factor=0.06),
        text_encoder=CLIPTextModelWithProjection(clip_config(16)),
        tokenizer=make_tokenizer(letters[0]),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(16)),
        tokenizer_2=make_tokenizer(letters[1]),
        text_encoder_3=make_t5(),
        tokenizer_3=make_t5_tokenizer(letters[2]),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)
    return folder


def save_flux(folder: Path) -> Path:
    """A Flux with distilled guidance."""
    torch.manual_seed(0)
    FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        vae=make_vae(4, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModel(clip_config(32)),
        tokenizer=make_tokenizer(folder.with_name(f"{folder.name}-letters")),
        text_encoder_2=make_t5(),
        tokenizer_2=make_t5_tokenizer(folder.with_name(f"{folder.name}-letters-2")),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)
    return folder


def assert_the_pipelines(open_engine: Any, checkpoint: Checkpoint, sample: Sample) -> None:
    """Alone, and stepped by a scheduler object, a sample's latents and pixels are a plain call's bit for bit."""
    renderer = Renderer(checkpoint, sampling="objects")
    assert torch.equal(renderer.fly([sample])[0].latents, call_pipeline(checkpoint, sample, output_type="latent"))
    with open_engine(renderer=renderer) as engine:
        pixels = engine.submit(sample).result().pixels
    assert np.array_equal(pixels, (call_pipeline(checkpoint, sample)[0] * 255).round().astype(np.uint8))


def call_pipeline(checkpoint: Checkpoint, sample: Sample, output_type: str = "np", **options: Any) -> Any:
    """What a plain diffusers call makes of the sample: (1, H, W, 3), or latents (1, C, h, w)."""
    pipeline = open_pipeline(checkpoint, sample)
    pipeline.scheduler = make_scheduler(checkpoint, sample.sampler)
    # The one scheduler that draws noise from no generator.
    if "noise_sampler_seed" in pipeline.scheduler.config:
        pipeline.scheduler.noise_sampler_seed = sample.seed
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        sample.prompt,
        negative_prompt=sample.negative_prompt or None,
        num_inference_steps=sample.steps,
        guidance_scale=sample.scale,
        eta=sample.eta,
        generator=torch.Generator("cpu").manual_seed(sample.seed),
        output_type=output_type,
        return_dict=False,
        **_pictures(sample),
        **options,
    )[0]


def _pictures(sample: Sample) -> dict[str, Any]:
    size = {"width": sample.width, "height": sample.height}
    if sample.init_image is None:
        return size
    begun = {"image": Image.open(sample.init_image), "strength": sample.strength}
    return {**begun, **size, "mask_image": Image.open(sample.mask_image)} if sample.mask_image else begun


def open_pipeline(checkpoint: Checkpoint, sample: Sample) -> Any:
    """The diffusers pipeline of a checkpoint's own models, without a scheduler."""
    kind = KINDS[checkpoint.text_encoder_2 is not None, (sample.init_image is not None) + bool(sample.mask_image)]
    parts = {name: getattr(checkpoint, name) for name in ("unet", "vae", "text_encoder", "tokenizer")}
    if checkpoint.text_encoder_2 is None:
        absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return kind(**parts, scheduler=make_scheduler(checkpoint, "DDIM"), **absent)
    parts |= {name: getattr(checkpoint, name) for name in ("text_encoder_2", "tokenizer_2")}
    zeros = checkpoint.zeros_for_empty
    return kind(**parts, scheduler=None, force_zeros_for_empty_prompt=zeros, add_watermarker=False)


def make_scheduler(checkpoint: Checkpoint, name: str) -> Any:
    return copy.deepcopy(_new_scheduler(json.dumps(checkpoint.scheduler_config), name))


@cache
def _new_scheduler(config: str, name: str) -> Any:
    """Once each: DPM2 plans a thousand steps when it is made."""
    sampler, saved = samplers.resolve(name), json.loads(config)
    kind = getattr(diffusers, sampler.scheduler or saved["_class_name"])
    options = {"clip_sample": False, **({"skip_prk_steps": True} if name == "PLMS" else {}), **sampler.options}
    return kind.from_config({**saved, **options})


def save_checker(folder: Path, *, threshold: float = 0.0, side: int = 32, **vision: Any) -> Path:
    """A safety checker, its concepts in random directions, all with one threshold."""
    torch.manual_seed(0)
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config={**layers, "image_size": side, "patch_size": 8, **vision},
        text_config={**layers, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1},
        projection_dim=16,
    )
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        for embeds in (checker.concept_embeds, checker.special_care_embeds):
            embeds.normal_()
        for thresholds in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
            thresholds.fill_(threshold)
    checker.save_pretrained(folder)
    return folder
