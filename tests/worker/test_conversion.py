"""Single files written anew, and what is told of files."""

import hashlib
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.checkpoints import SHIPPED
from tests.worker.ldm import ema_key, save_tiny_parts, single_file_tensors, write_ckpt, write_single_file
from worker.checkpoints import open_checkpoint
from worker.conversion import convert
from worker.errors import CheckpointMissing, CheckpointUnsupported, NotConverted
from worker.families import OTHER_SIZE, UNET
from worker.inspection import inspect
from worker.weight_file import open_weight_file


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_parts(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def ckpt(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ckpt") / "tiny.ckpt"
    write_ckpt(parts, path, callbacks={"a": {1, 2}})
    return path


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_a_pickle_becomes_safetensors_of_what_is_rendered(
    ckpt: Path, parts: Path, tmp_path: Path, precision: str
) -> None:
    target = tmp_path / "new.safetensors"
    sha256 = convert(open_weight_file(ckpt), OTHER_SIZE, target, precision)
    dtype, expected, found = getattr(torch, precision), single_file_tensors(parts), load_file(target)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor.to(dtype)) for key, tensor in expected.items())
    assert sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["new.safetensors"]


def test_the_averages_of_training_are_taken_when_asked_for(ckpt: Path, parts: Path, tmp_path: Path) -> None:
    convert(open_weight_file(ckpt), OTHER_SIZE, tmp_path / "new.safetensors", "float32", averaged=True)
    found, plain = load_file(tmp_path / "new.safetensors"), single_file_tensors(parts)
    for key, tensor in found.items():
        assert torch.equal(tensor, plain[key] / 2 if key.startswith(UNET) else plain[key])
    assert ema_key(f"{UNET}out.2.bias") == "model_ema.diffusion_modelout2bias"


def test_without_averages_none_are_taken(parts: Path, tmp_path: Path) -> None:
    write_single_file(parts, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointUnsupported, match="no averaged"):
        convert(open_weight_file(tmp_path / "a.safetensors"), OTHER_SIZE, tmp_path / "b", "float16", averaged=True)
    assert not (tmp_path / "b").exists()


def test_a_number_too_large_for_half_precision_is_an_error(parts: Path, tmp_path: Path) -> None:
    tensors = {key: tensor.contiguous() for key, tensor in single_file_tensors(parts).items()}
    tensors[f"{UNET}out.2.bias"] = torch.full((4,), 1e6)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(NotConverted, match=r"too large for float16; choose bfloat16"):
        convert(open_weight_file(tmp_path / "a.safetensors"), OTHER_SIZE, tmp_path / "b", "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_memory_holds_a_tensor_at_a_time(tmp_path: Path) -> None:
    state_dict = {f"{UNET}{number}": torch.ones(1 << 20) for number in range(16)}
    torch.save({"state_dict": state_dict}, tmp_path / "a.ckpt")
    del state_dict
    file = open_weight_file(tmp_path / "a.ckpt")
    tracemalloc.start()
    convert(file, OTHER_SIZE, tmp_path / "b.safetensors", "float16")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "b.safetensors").stat().st_size > 32 << 20
    assert peak < 20 << 20


def test_a_converted_checkpoint_opens(ckpt: Path, tmp_path: Path) -> None:
    convert(open_weight_file(ckpt), OTHER_SIZE, tmp_path / "new.safetensors", "float16")
    found, peer = (open_checkpoint(str(path), device="cpu").unet for path in (tmp_path / "new.safetensors", ckpt))
    assert all(torch.equal(t, peer.state_dict()[key].half().float()) for key, t in found.state_dict().items())


def test_a_file_is_told_by_its_header(ckpt: Path) -> None:
    found = inspect(ckpt)
    assert (found.kind, found.precision, found.averaged) == ("Stable Diffusion 1.x", "float32", True)
    assert (found.sha256, found.bytes) == (hashlib.sha256(ckpt.read_bytes()).hexdigest(), ckpt.stat().st_size)


def test_the_hash_of_a_folder_is_what_images_carry() -> None:
    found = inspect(SHIPPED / "demo")
    assert (found.kind, found.precision) == ("Stable Diffusion 1.x or 2.x", "float16")
    assert found.sha256 == open_checkpoint("demo", device="cpu").hash


def test_what_is_not_there_is_missed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="no file or folder"):
        inspect(tmp_path / "none")
