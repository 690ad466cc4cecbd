import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from configs.checkpoints import SHIPPED, Way
from configs.clip import END, START
from tests.worker.ldm import write_ckpt, write_single_file
from tests.worker.pipelines import save_sd, save_sdxl
from tests.worker.sd1_layout import HollowFile
from worker.checkpoints import Checkpoint, open_checkpoint
from worker.errors import CheckpointBroken, CheckpointUnsupported
from worker.families import CROSS_ATTENTION, FAMILIES, FIRST_LAYER, TEXT, UNET, Family, find_family
from worker.renderer import Renderer
from worker.single_file import load_single_file, predicts_velocity

WIDTH = 32
"""Of the tiny checkpoint's text embeddings."""
SDXL_WIDTH = 72


@pytest.fixture(scope="module")
def folder(checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with a text encoder for all of CLIP's vocabulary."""
    folder = Path(shutil.copytree(checkpoint_folder, tmp_path_factory.mktemp("single") / "tiny"))
    torch.manual_seed(1)
    CLIPTextModel(text_config(WIDTH)).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="module")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_sdxl(tmp_path_factory.mktemp("single-sdxl") / "tiny")
    torch.manual_seed(1)
    CLIPTextModel(text_config(32)).save_pretrained(folder / "text_encoder")
    CLIPTextModelWithProjection(text_config(40)).save_pretrained(folder / "text_encoder_2")
    return folder


def text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        projection_dim=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=START,
        eos_token_id=END,
    )


@pytest.fixture(autouse=True)
def _offline_with_tiny_families(
    folder: Path, sdxl_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configurations alone, as they are shipped; nothing can be fetched, nor found in a cache."""
    weights_and_tokenizers = shutil.ignore_patterns("*.safetensors", "tokenizer*")
    for name, of in {"sd": folder, "sdxl": sdxl_folder}.items():
        shutil.copytree(of, tmp_path / "configs" / name, ignore=weights_and_tokenizers)
    monkeypatch.setitem(FAMILIES, WIDTH, Family(tmp_path / "configs" / "sd"))
    monkeypatch.setitem(FAMILIES, SDXL_WIDTH, Family(tmp_path / "configs" / "sdxl", Way.SDXL, (END, 0)))
    monkeypatch.setattr("socket.socket.connect", refuse_the_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def refuse_the_network(*_: Any) -> None:
    raise AssertionError("The network was asked.")


def open_on_cpu(path: Path) -> Checkpoint:
    return open_checkpoint(str(path), device="cpu", dtype="float32")


def spoil(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.fixture
def single(folder: Path, tmp_path: Path) -> Path:
    write_single_file(folder, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("open_clip", [False, True], ids=["1.x", "2.x"])
def test_images_are_those_of_the_same_weights_in_a_folder(
    folder: Path, tmp_path: Path, open_engine: Any, make_sample: Any, open_clip: bool
) -> None:
    write_single_file(folder, tmp_path / "model.safetensors", open_clip=open_clip)
    single, peer = open_on_cpu(tmp_path / "model.safetensors"), open_on_cpu(folder)
    single.scheduler_config["prediction_type"] = "v_prediction"  # its random UNet is taken for a noise prediction
    images = []
    for checkpoint in (single, dataclasses.replace(peer, tokenizer=single.tokenizer)):
        with open_engine(checkpoint) as engine:
            images.append([engine.submit(make_sample(prompt=p)).result(60).pixels for p in ("a red circle", "a horse")])
    assert [(ours == theirs).all() for ours, theirs in zip(*images, strict=True)] == [True, True]
    assert (images[0][0] != images[0][1]).any()


def test_images_of_sdxl_too(sdxl_folder: Path, tmp_path: Path, open_engine: Any, make_sample: Any) -> None:
    write_single_file(sdxl_folder, tmp_path / "model.safetensors")
    single, peer = open_on_cpu(tmp_path / "model.safetensors"), open_on_cpu(sdxl_folder)
    assert single.zeros_for_empty
    peer = dataclasses.replace(peer, tokenizer=single.tokenizer, tokenizer_2=single.tokenizer_2)
    images = []
    for checkpoint in (single, peer):
        with open_engine(checkpoint) as engine:
            images.append(engine.submit(make_sample(negative_prompt="a horse")).result(60).pixels)
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize("keys", [(), ("v_pred",), ("v_pred", "ztsnr")], ids=str)
def test_empty_tensors_tell_the_noise(sdxl_folder: Path, tmp_path: Path, keys: tuple[str, ...]) -> None:
    path = tmp_path / "model.safetensors"
    write_single_file(sdxl_folder, path, **{key: torch.zeros(0) for key in keys})
    config = open_on_cpu(path).scheduler_config
    assert config["prediction_type"] == ("v_prediction" if "v_pred" in keys else "epsilon")
    assert config.get("rescale_betas_zero_snr", False) == ("ztsnr" in keys)


@pytest.mark.parametrize("kind", ["whole", "half"])
def test_a_pickle_gives_the_weights_that_are_no_averages(folder: Path, single: Path, kind: str) -> None:
    ckpt = single.with_suffix(".ckpt")
    write_ckpt(folder, ckpt, callbacks={"monitor": [1, {2}]})
    dtype = {"whole": "float32", "half": "bfloat16"}[kind]
    opened, peer = (open_checkpoint(str(path), device="cpu", dtype=dtype) for path in (ckpt, single))
    for name in ("unet", "vae", "text_encoder"):
        found, expected = (getattr(checkpoint, name).state_dict() for checkpoint in (opened, peer))
        assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())
    assert opened.hash == hashlib.sha256(ckpt.read_bytes()).hexdigest()


def test_a_text_encoder_that_a_merge_has_renamed_is_found(single: Path) -> None:
    plain = open_on_cpu(single).text_encoder.state_dict()
    tensors = {key.replace("transformer.text_model.", "transformer."): t for key, t in load_file(single).items()}
    save_file(tensors, single)
    renamed = open_on_cpu(single).text_encoder.state_dict()
    assert all(torch.equal(tensor, renamed[key]) for key, tensor in plain.items())


def test_the_hash_is_that_of_the_file(single: Path) -> None:
    assert open_on_cpu(single).hash == hashlib.sha256(single.read_bytes()).hexdigest()


def test_what_training_left_in_a_file_is_ignored(single: Path) -> None:
    plain = open_on_cpu(single).unet.state_dict()
    extra = {f"model_ema.diffusion_model{i}": torch.ones(1) for i in range(200)}
    extra["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    spoil(single, lambda tensors: tensors.update(extra, betas=torch.ones(1000)))
    opened = open_on_cpu(single).unet.state_dict()
    assert all(torch.equal(tensor, opened[key]) for key, tensor in plain.items())


def test_half_precision_weights_are_upcast_and_said_so(single: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({key: tensor.half() for key, tensor in load_file(single).items()}, single)
    with caplog.at_level(logging.INFO):
        assert open_on_cpu(single).unet.dtype == torch.float32
    assert f"{single} holds half-precision weights; they run in float32 on cpu." in caplog.messages


def test_opening_says_nothing(single: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_on_cpu(single)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("model.diffusion_model.out.2.weight", "unet, conv_out.weight"),
        ("first_stage_model.decoder.conv_out.bias", "vae, decoder.conv_out.bias"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "text_encoder, .*final_layer_norm.weight"),
    ],
)
def test_a_weight_that_is_not_there_is_missed(single: Path, key: str, says: str) -> None:
    spoil(single, lambda tensors: tensors.pop(key))
    with pytest.raises(CheckpointBroken, match=f"lacks weights.*{says}.*download") as caught:
        open_on_cpu(single)
    assert "\n" not in str(caught.value)


def test_a_weight_of_another_shape_is_refused(single: Path) -> None:
    spoil(single, lambda tensors: tensors.update({"model.diffusion_model.out.2.bias": torch.zeros(5)}))
    with pytest.raises(CheckpointBroken, match="cannot be loaded"):
        open_on_cpu(single)


def test_a_file_of_averages_alone_is_explained(single: Path) -> None:
    renamed = {key.replace("model.diffusion_model.", "model_ema."): t for key, t in load_file(single).items()}
    save_file(renamed, single)
    with pytest.raises(CheckpointUnsupported, match="averaged"):
        open_on_cpu(single)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["lora_unet_down_blocks_0.lora_down.weight"], "is a LoRA"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "is a VAE alone"),
        (["first_stage_model.encoder.conv_in.weight"], "is a VAE alone"),
        (["control_model.time_embed.0.weight"], "is a ControlNet"),
        (["emb_params"], "is an embedding"),
        (["down_blocks.0.resnets.0.conv1.weight"], "one model out of a diffusers folder"),
        (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "no full Stable Diffusion"),
        (["double_blocks.0.img_attn.qkv.weight"], "is a Flux transformer"),
        (["weight"], "no full Stable Diffusion"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, keys: list[str], says: str) -> None:
    save_file({key: torch.zeros(2, 2) for key in keys}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointUnsupported, match=says):
        open_on_cpu(tmp_path / "a.safetensors")


def test_a_checkpoint_for_inpainting_opens_with_the_configuration_of_its_family(
    folder: Path, tmp_path: Path, make_sample: Any, init_image: Path
) -> None:
    made = save_sd(tmp_path / "made", channels=8, inpainting=True)
    shutil.copytree(folder / "text_encoder", made / "text_encoder", dirs_exist_ok=True)
    write_single_file(made, tmp_path / "inpainting.safetensors")
    opened = open_on_cpu(tmp_path / "inpainting.safetensors")
    assert opened.unet.config.in_channels == 17
    assert opened.scheduler_config["prediction_type"] == "epsilon"
    expected = load_file(made / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(tensor, expected[key]) for key, tensor in opened.unet.state_dict().items())
    sample = make_sample(init_image=init_image, mask_image=init_image)
    assert Renderer(opened).fly([sample])[0].latents.isfinite().all()


@pytest.mark.parametrize("width", [768, 1024, 2048])
def test_a_file_for_inpainting_is_of_its_family(width: int) -> None:
    assert find_family(Path("model.safetensors"), header(width, channels=9)) is FAMILIES[width]


def header(width: int, channels: int = 4) -> dict[str, Any]:
    shapes = {FIRST_LAYER: [320, channels, 3, 3], f"{UNET}x{CROSS_ATTENTION}": [320, width]}
    texts = [f"{prefix}x" for prefixes in TEXT.values() for prefix in prefixes]
    return {key: {"shape": shapes.get(key, [1])} for key in (*shapes, "first_stage_model.x", *texts)}


@pytest.mark.parametrize(
    ("width", "name", "pads"), [(768, "sd-v1", (END,)), (1024, "sd-v2", (0,)), (2048, "sdxl", (END, 0))]
)
def test_the_width_of_the_text_tells_the_family(width: int, name: str, pads: tuple[int, ...]) -> None:
    family = find_family(Path("model.safetensors"), header(width))
    assert (family.folder, family.pads) == (SHIPPED / name, pads)
    assert family.models == ["text_encoder", *["text_encoder_2"] * (name == "sdxl"), "unet", "vae"]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (header(4096), "no full"),
        (header(1280), "refiner"),
        (header(768, channels=5), "depth"),
        (header(2048) | {"edm_mean": {"shape": [4]}}, "another kind of noise"),
        ({}, "no full"),
    ],
)
def test_another_architecture_is_refused(found: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointUnsupported, match=says):
        find_family(Path("model.safetensors"), found)


@pytest.mark.parametrize("bias", [-5.0, 0.0])
def test_a_velocity_is_told_from_noise(checkpoint_folder: Path, bias: float) -> None:
    unet = UNet2DConditionModel.from_pretrained(checkpoint_folder, subfolder="unet")
    with torch.no_grad():
        unet.conv_out.bias.fill_(bias)
        unet.conv_out.weight.mul_(0.01)
    assert predicts_velocity(unet) == (bias < 0)


@torch.no_grad()
def test_every_weight_of_a_whole_stable_diffusion_1_has_its_place() -> None:
    file = HollowFile()
    opened = load_single_file(file, find_family(file.path, file.header), torch.float32)
    models = [opened[name] for name in ("unet", "vae", "text_encoder")]
    numbers = [float(part.flatten()[0]) for model in models for part in model.parameters()]
    assert sorted(numbers) == list(range(len(file.weights)))


# Parameters as the model cards and papers count them: UNet, VAE, text encoder.
SIZES = {
    "sd-v1": (859_520_964, 83_653_863, 123_060_480),
    "sd-v2": (865_910_724, 83_653_863, 340_387_840),
    "sdxl": (2_567_463_684, 83_653_863, 123_060_480, 694_659_840),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_shipped_configurations_are_of_the_right_size(name: str) -> None:
    folder = SHIPPED / name
    configs = [json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae")]
    with torch.device("meta"):
        models = [
            UNet2DConditionModel.from_config(configs[0]),
            AutoencoderKL.from_config(configs[1]),
            CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
        ]
        if (folder / "text_encoder_2").is_dir():
            models.append(CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(folder / "text_encoder_2")))
    assert tuple(sum(p.numel() for p in model.parameters()) for model in models) == SIZES[name]
