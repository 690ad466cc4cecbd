"""Trains the demo checkpoint: a small Stable Diffusion (CLIP text encoder, UNet, VAE) on drawn shapes.

``python -m worker.demo.train OUT`` writes a diffusers folder in half precision; about an hour and a half on two CPU
cores that do nothing else. ``--start FOLDER`` goes on from one. The same options, library versions and number of
threads give the same weights.

The UNet predicts v (Salimans & Ho 2022, https://arxiv.org/abs/2202.00512) and its noise schedule ends at a lower
signal-to-noise ratio than Stable Diffusion 1's. Both matter for colour: it is decided at the first, noisiest steps,
where noise prediction gives almost no gradient and a leaking mean colour contradicts the prompt.
"""

import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from configs.checkpoints import checkpoint_path
from worker.demo.grammar import Scene, split, training_caption
from worker.demo.pictures import SIDE, draw

VAE_BATCH, VAE_RATE = 16, 2e-3
UNET_BATCH = 64
#: Pictures painted once and drawn from in both trainings.
PICTURES = 12_000
LATENT_CHANNELS = 4
TEXT_WIDTH = 96
PREDICTION = "v_prediction"


def build_vae() -> AutoencoderKL:
    """128 × 128 pixels to 16 × 16 latents of 4 channels and back, Stable Diffusion's own ratio."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,
        sample_size=SIDE,
    )
    keep_variance(vae)
    return vae


@torch.no_grad()
def keep_variance(vae: AutoencoderKL) -> None:
    """Start as a linear autoencoder with little noise: under PyTorch's own start a flat colour fades on the way."""
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
    vae.quant_conv.weight[LATENT_CHANNELS:].mul_(0.1)
    vae.quant_conv.bias[LATENT_CHANNELS:].fill_(-6)


def build_unet() -> UNet2DConditionModel:
    """The top level has no attention: on 16 × 16 latents it would cost more than the rest."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=PREDICTION,
    )


def paint(scenes: list[Scene], rng: random.Random) -> Tensor:
    """Pictures of the scenes, (N, 3, SIDE, SIDE) in 8 bits."""
    pictures = np.stack([np.asarray(draw(scene, rng)) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def scaled(pictures: Tensor) -> Tensor:
    """8-bit pictures in [-1, 1]."""
    return pictures / 127.5 - 1


def decaying(optimizer: torch.optim.Optimizer, peak: float, steps: int) -> Iterator[int]:
    """Count the steps while the learning rate warms up over 100 and falls as a cosine to nothing; log each 50th."""
    started = time.monotonic()
    for step in range(steps):
        rate = peak * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if step % 50 == 0:
            click.echo(f"  step {step}/{steps}, {time.monotonic() - started:.0f} s")
        yield step


def train_vae(vae: AutoencoderKL, pictures: Tensor, steps: int, rng: random.Random) -> None:
    """Fit reconstruction: three quarters of the steps on crops, which cost a quarter, then on whole pictures."""
    optimizer = torch.optim.AdamW(vae.parameters(), VAE_RATE, betas=(0.9, 0.99), weight_decay=0)
    for step in decaying(optimizer, VAE_RATE, steps):
        batch = scaled(pictures[rng.choices(range(len(pictures)), k=VAE_BATCH)])
        loss = restoring_loss(vae, crop(batch, SIDE // 2, rng) if step < 0.75 * steps else batch)
        descend(loss, optimizer, vae.parameters())
        if step % 50 == 0:
            click.echo(f"  vae loss {loss.item():.4f}")


def crop(pictures: Tensor, side: int, rng: random.Random) -> Tensor:
    """A square of each picture, at a place of its own."""
    places = [(rng.randrange(SIDE - side + 1), rng.randrange(SIDE - side + 1)) for _ in pictures]
    return torch.stack([p[:, y : y + side, x : x + side] for p, (x, y) in zip(pictures, places, strict=True)])


def restoring_loss(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """How far the decoded pictures are from the encoded ones, with a weight on edges, which L1 alone leaves blurred."""
    posterior = vae.encode(pictures).latent_dist
    restored: Tensor = vae.decode(posterior.sample()).sample
    distance = F.l1_loss(restored, pictures) + F.mse_loss(restored, pictures)
    loss: Tensor = distance + 0.5 * edge_loss(restored, pictures) + 1e-6 * posterior.kl().mean()
    return loss


def edge_loss(restored: Tensor, pictures: Tensor) -> Tensor:
    """Mean L1 distance between the horizontal and vertical differences of two stacks of pictures."""
    across = F.l1_loss(restored.diff(dim=-1), pictures.diff(dim=-1))
    down = F.l1_loss(restored.diff(dim=-2), pictures.diff(dim=-2))
    return across + down


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, parameters: Iterator[nn.Parameter]) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Latents of the pictures, not scaled."""
    return torch.cat([vae.encode(scaled(part)).latent_dist.mean for part in pictures.split(16)])


def train_unet(
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    scenes: list[Scene],
    steps: int,
    rate: float,
    rng: random.Random,
) -> None:
    """Train UNet and text encoder together; at the end they hold the running average of their weights."""
    parameters = [*pipeline.unet.parameters(), *pipeline.text_encoder.parameters()]
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, rate)
    losses: list[float] = []
    for step in decaying(optimizer, rate, steps):
        picked = rng.choices(range(len(scenes)), k=UNET_BATCH)
        captions = [training_caption(scenes[i], rng) for i in picked]
        loss = denoising_loss(pipeline, latents[picked], captions)
        descend(loss, optimizer, iter(parameters))
        follow(average, parameters, min(0.999, (1 + step) / (10 + step)))
        losses.append(loss.item())
        if step % 50 == 0:
            click.echo(f"  unet loss {np.mean(losses[-100:]):.4f}")
    for parameter, mean in zip(parameters, average, strict=True):
        parameter.data.copy_(mean)


def denoising_loss(pipeline: StableDiffusionPipeline, latents: Tensor, captions: list[str]) -> Tensor:
    scheduler = pipeline.scheduler
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
    noisy = scheduler.add_noise(latents, noise, timesteps)
    tokens = pipeline.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    predicted = pipeline.unet(noisy, timesteps, pipeline.text_encoder(tokens)[0]).sample
    return F.mse_loss(predicted, scheduler.get_velocity(latents, noise, timesteps))


@torch.no_grad()
def follow(average: list[Tensor], parameters: list[nn.Parameter], decay: float) -> None:
    """Move the exponential moving average of the weights one step."""
    torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)


def assemble(vae: AutoencoderKL) -> StableDiffusionPipeline:
    tokenizer = CLIPTokenizer.from_pretrained(Path(checkpoint_path("demo")) / "tokenizer", local_files_only=True)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=build_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=build_unet(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def seeded(seed: int) -> random.Random:
    """Seed everything that draws; each of the two trainings starts so, and can be repeated without the other."""
    torch.manual_seed(seed)
    return random.Random(seed)


def begin(pictures: Tensor, vae_steps: int, rng: random.Random, seed: int) -> StableDiffusionPipeline:
    """A pipeline whose VAE is trained on the pictures, and the rest is as it is born."""
    vae = build_vae()
    train_vae(vae, pictures, vae_steps, rng)
    vae.register_to_config(scaling_factor=1 / encode_pictures(vae, pictures).std().item())
    seeded(seed)
    return assemble(vae)


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="Train UNet and text encoder on from here.")
@click.option("--vae-steps", default=2000, show_default=True)
@click.option("--unet-steps", default=5000, show_default=True)
@click.option("--unet-rate", default=1.5e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(
    out: Path, start: Path | None, vae_steps: int, unet_steps: int, unet_rate: float, seed: int, threads: int
) -> None:
    """Train the demo checkpoint and write it to OUT."""
    torch.set_num_threads(threads)
    rng = seeded(seed)
    scenes = rng.choices(split()[0], k=PICTURES)
    pictures = paint(scenes, rng)
    if start:
        pipeline = StableDiffusionPipeline.from_pretrained(start, use_safetensors=True, torch_dtype=torch.float32)
        rng = seeded(seed + 1)
    else:
        pipeline = begin(pictures, vae_steps, rng, seed + 1)
        rng = random.Random(seed + 1)
    latents = encode_pictures(pipeline.vae, pictures) * pipeline.vae.config.scaling_factor
    train_unet(pipeline, latents, scenes, unet_steps, unet_rate, rng)
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    click.echo(f"Wrote {out}.")


if __name__ == "__main__":
    main()
