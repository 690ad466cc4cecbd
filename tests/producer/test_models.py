"""Checkpoints under short names."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from configs.checkpoints import SHIPPED, checkpoint_path, native_size
from configs.models import FILE_NAME, find_model
from configs.parameters import read_parameter

Call = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint that may be spoiled."""
    return Path(shutil.copytree(SHIPPED / "demo", tmp_path / "mine"))


def test_a_name_stands_for_a_checkpoint(promptmill: Call, folder: Path) -> None:
    assert promptmill("models", "add", "mine", folder).exit_code == 0
    assert checkpoint_path("mine") == str(folder)
    assert read_parameter("model", " mine ") == "mine"
    assert native_size("mine") == native_size("demo") == (128, 128)


def test_a_name_is_listed_with_what_a1111_calls_the_hash(promptmill: Call, folder: Path) -> None:
    promptmill("models", "add", "mine", folder)
    model = find_model("mine")
    assert model
    files = sorted(folder.glob("*/*.safetensors"))
    assert model.sha256 == hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    header, row = promptmill("models", "list").output.splitlines()
    assert header.split() == ["name", "kind", "precision", "size", "hash", "path"]
    assert row.split()[0] == "mine"
    assert f"float16    7.4 MB  {model.sha256[:10]}  {folder}" in row
    assert json.loads(promptmill("models", "list", "--json").output)["bytes"] == model.bytes


def test_verifying_finds_one_changed_byte(promptmill: Call, folder: Path) -> None:
    promptmill("models", "add", "mine", folder)
    assert (promptmill("models", "verify").exit_code, promptmill("models", "verify", "mine").exit_code) == (0, 0)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = promptmill("models", "verify")
    assert (result.exit_code, result.output.startswith(f"FAULT mine: {folder} has changed: sha256 is now ")) == (
        1,
        True,
    )
    shutil.rmtree(folder)
    assert "no file or folder" in promptmill("models", "verify").output


def test_a_removed_name_leaves_the_files(promptmill: Call, folder: Path) -> None:
    promptmill("models", "add", "mine", folder)
    assert promptmill("models", "remove", "mine").exit_code == 0
    assert folder.is_dir()
    assert checkpoint_path("mine") == "mine"
    assert promptmill("models", "remove", "mine").exit_code == 2


@pytest.mark.parametrize("name", ["demo", "a/b", "", "../a", ".a", "a b", "x" * 65])
def test_what_is_no_name_is_refused(promptmill: Call, folder: Path, name: str) -> None:
    result = promptmill("models", "add", name, folder)
    assert (result.exit_code, "cannot be a model's name" in result.output) == (2, True)


def test_a_name_is_given_once(promptmill: Call, folder: Path) -> None:
    promptmill("models", "add", "mine", folder)
    result = promptmill("models", "add", "mine", SHIPPED / "demo")
    assert (result.exit_code, "models remove mine" in result.output) == (2, True)


def test_what_is_no_checkpoint_gets_no_name(promptmill: Call, tmp_path: Path) -> None:
    (tmp_path / "sd.ckpt").write_text("<html>Log in</html>")
    result = promptmill("models", "add", "mine", "sd.ckpt")
    assert (result.exit_code, "web page" in result.output, find_model("mine")) == (1, True, None)


def test_a_damaged_list_is_named(promptmill: Call, home: Path) -> None:
    home.mkdir()
    (home / FILE_NAME).write_text("{")
    result = promptmill("models", "list")
    assert (result.exit_code, FILE_NAME in result.output) == (2, True)


def test_an_existing_file_is_not_converted_over(promptmill: Call, tmp_path: Path) -> None:
    for name in ("a.ckpt", "a.safetensors"):
        (tmp_path / name).touch()
    result = promptmill("models", "convert", "a.ckpt")
    assert (result.exit_code, "a.safetensors exists" in result.output) == (2, True)
