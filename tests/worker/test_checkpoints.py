import hashlib
import json
import logging
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worker.pipelines import make_tokenizer
from worker.checkpoints import Checkpoint, open_checkpoint, pick_device, pick_dtype
from worker.errors import CheckpointBroken, CheckpointMissing, CheckpointRefused, CheckpointUnsupported, DeviceRefused
from worker.folder_files import NEEDED

UNET = Path("unet/diffusion_pytorch_model.safetensors")


def open_on_cpu(folder: Path | str) -> Checkpoint:
    return open_checkpoint(str(folder), device="cpu", dtype="float32")


@pytest.fixture
def copied(checkpoint_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copied"))


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_folder_opens_ready_to_render(checkpoint: Checkpoint) -> None:
    assert (checkpoint.factor, checkpoint.native_size) == (4, (32, 32))
    assert checkpoint.scheduler_config["prediction_type"] == "v_prediction"
    assert (checkpoint.device_name, checkpoint.dtype_name) == ("cpu", "float32")
    assert not checkpoint.unet.training
    assert not any(parameter.requires_grad for parameter in checkpoint.vae.parameters())


def test_the_hash_is_that_of_the_weights(checkpoint: Checkpoint, checkpoint_folder: Path) -> None:
    files = ["text_encoder/model.safetensors", str(UNET), "vae/diffusion_pytorch_model.safetensors"]
    content = b"".join((checkpoint_folder / file).read_bytes() for file in files)
    assert checkpoint.hash == hashlib.sha256(content).hexdigest()
    assert checkpoint.short_hash == checkpoint.hash[:10]


def test_opening_says_nothing(checkpoint_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_on_cpu(checkpoint_folder)
    assert capfd.readouterr() == ("", "")
    assert caught == []


def test_a_fresh_process_opens_a_checkpoint_in_silence(checkpoint_folder: Path) -> None:
    script = "import sys; from worker.checkpoints import open_checkpoint; open_checkpoint(sys.argv[1], device='cpu')"
    command = [sys.executable, "-c", script, str(checkpoint_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_half_precision_weights_are_upcast_and_said_so(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in copied.rglob("*.safetensors"):
        halved = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(halved, path.with_name(f"{path.stem}.fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    with caplog.at_level(logging.INFO):
        checkpoint = open_on_cpu(copied)
    assert checkpoint.unet.dtype == checkpoint.text_encoder.dtype == torch.float32
    assert [record for record in caplog.messages if "half-precision" in record] == [
        f"{copied} holds half-precision weights; they run in float32 on cpu."
    ]


def spoil_with_git_lfs(folder: Path) -> None:
    (folder / UNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def spoil_by_truncation(folder: Path) -> None:
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-100])


def spoil_by_emptying(folder: Path) -> None:
    (folder / UNET).write_bytes(b"")


def spoil_with_garbage(folder: Path) -> None:
    (folder / UNET).write_bytes(b"\x10" + bytes(7) + b"x" * 16)


def spoil_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def spoil_config(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("{")


def spoil_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


def spoil_shapes(folder: Path) -> None:
    edit_json(folder / "unet" / "config.json", cross_attention_dim=48)


def spoil_by_dropping_a_weight(folder: Path) -> None:
    tensors = load_file(folder / UNET)
    tensors.pop("conv_out.weight")
    save_file(tensors, folder / UNET, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_with_git_lfs, "git lfs pull"),
        (spoil_by_truncation, "download it again"),
        (spoil_by_emptying, "truncated"),
        (spoil_with_garbage, "download it again"),
        (spoil_index, "model_index.json is missing"),
        (spoil_config, "config.json cannot be read"),
        (spoil_tokenizer, "tokenizer"),
        (spoil_shapes, "unet"),
        (spoil_by_dropping_a_weight, "lacks weights, conv_out.weight"),
    ],
)
def test_a_broken_checkpoint_is_refused_in_one_sentence(copied: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(copied)
    with pytest.raises(CheckpointBroken, match=says) as caught:
        open_on_cpu(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", [*NEEDED, "tokenizer/merges.txt", "tokenizer/vocab.json"])
def test_a_needed_file_that_is_not_there_is_named(copied: Path, missing: str) -> None:
    (copied / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    make_tokenizer(copied / "letters")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(copied / "letters" / name, copied / "tokenizer")
    (copied / missing).unlink()
    with pytest.raises(CheckpointBroken, match=f"{missing} is missing"):
        open_on_cpu(copied)


def test_missing_weights_are_named(copied: Path) -> None:
    (copied / UNET).unlink()
    with pytest.raises(CheckpointMissing, match="unet"):
        open_on_cpu(copied)


def test_pickles_of_a_folder_are_never_opened(copied: Path) -> None:
    (copied / UNET).rename((copied / UNET).with_suffix(".bin"))
    with pytest.raises(CheckpointUnsupported, match="run code"):
        open_on_cpu(copied)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("StableDiffusionUpscalePipeline", "StableDiffusionUpscalePipeline, which does not make images of text alone"),
        ("NextYearsPipeline", "NextYearsPipeline, which the installed diffusers does not have"),
        ("UNet2DModel", "UNet2DModel, which does not"),
    ],
)
def test_another_pipeline_is_refused_by_name(copied: Path, kind: str, says: str) -> None:
    edit_json(copied / "model_index.json", _class_name=kind)
    with pytest.raises(CheckpointUnsupported, match=says):
        open_on_cpu(copied)


def test_code_of_a_checkpoint_is_never_run(copied: Path) -> None:
    for path, fields in (
        ("model_index.json", {"_class_name": ["pipeline", "MyPipeline"]}),
        ("model_index.json", {"_class_name": "StableDiffusionPipeline", "unet": ["my_unet", "MyUnet"]}),
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "model.MyModel"}}),
    ):
        (copied / "unet" / "my_unet.py").write_text("raise SystemExit")
        edit_json(copied / path, **fields)
        with pytest.raises(CheckpointUnsupported, match="code of its own, which is never run"):
            open_on_cpu(copied)
        edit_json(copied / "model_index.json", unet=["diffusers", "UNet2DConditionModel"])


def test_a_refiner_is_refused(copied: Path) -> None:
    edit_json(
        copied / "model_index.json", _class_name="StableDiffusionXLImg2ImgPipeline", requires_aesthetics_score=True
    )
    edit_json(copied / "unet" / "config.json", addition_embed_type="text_time")
    with pytest.raises(CheckpointUnsupported, match="refiner"):
        open_on_cpu(copied)


def test_an_inpainting_unet_is_refused(copied: Path) -> None:
    edit_json(copied / "unet" / "config.json", in_channels=9)
    with pytest.raises(CheckpointUnsupported, match="inpainting"):
        open_on_cpu(copied)


@pytest.mark.parametrize("model", ["nobody/nothing-of-this-name", "no such file", "/no/such/folder"])
def test_a_missing_checkpoint_is_not_fetched_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointMissing, match=r"no such file|no file or folder"):
        open_on_cpu(model)


def test_a_refusal_comes_before_the_device(copied: Path) -> None:
    spoil_by_truncation(copied)
    with pytest.raises(CheckpointRefused):
        open_checkpoint(str(copied), device="cpu", dtype="float16")


def test_devices_and_dtypes_are_picked_by_name() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.float16


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(DeviceRefused, match="device"):
        pick_device(device)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(DeviceRefused, match="int8"):
        pick_dtype("int8", torch.device("cpu"))
