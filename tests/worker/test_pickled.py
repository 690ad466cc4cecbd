"""Pickled checkpoints: what is read of them, and that nothing of them ever runs."""

import importlib
import io
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.errors import CheckpointBroken, CheckpointRefused
from worker.pickled import PickledFile
from worker.weight_file import SafetensorsFile, open_weight_file

SMALL = torch.arange(12.0).reshape(3, 4)
LIGHTNING = "pytorch_lightning"


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def replace_pickle(path: Path, content: bytes) -> Path:
    """Put another program in the place of `data.pkl`."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in files.items():
            archive.writestr(name, content if name.endswith("/data.pkl") else old)
    return path


def pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
TENSORS = {name: (SMALL > 5 if name == "bool" else SMALL).to(getattr(torch, name)) for name in DTYPES} | {
    "a transposed one": SMALL.T,
    "a part of a larger one": SMALL[1:, 2:],
    "a number": torch.tensor(3.5),
    "nothing": torch.empty(0, 4),
    "a stretched one": torch.ones(1).expand(5),
    "a parameter": torch.nn.Parameter(SMALL),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_is_read_as_it_was_saved(tmp_path: Path, name: str) -> None:
    file = PickledFile(save(tmp_path / "a.ckpt", {name: TENSORS[name]}))
    assert torch.equal(file.read(name), TENSORS[name].detach())
    assert (file.read(name).dtype, file.header[name]["shape"]) == (TENSORS[name].dtype, list(TENSORS[name].shape))


def test_tensors_that_share_their_numbers_are_read(tmp_path: Path) -> None:
    file = PickledFile(save(tmp_path / "a.ckpt", {"whole": SMALL, "row": SMALL[1], "column": SMALL[:, 1]}))
    assert [file.read(name).tolist() for name in ("row", "column")] == [[4, 5, 6, 7], [1, 5, 9]]


@pytest.mark.parametrize(
    "wrap", [lambda w: w, lambda w: {"state_dict": w}, lambda w: {"state_dict": {"state_dict": w}}]
)
def test_the_state_dict_is_found(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    weights = OrderedDict(weight=SMALL)
    weights._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]  # as a module's state dict has it
    assert list(PickledFile(save(tmp_path / "a.ckpt", wrap(weights))).header) == ["weight"]


class Callback:
    """Stands for a class of PyTorch Lightning."""

    def __init__(self) -> None:
        self.best, self.scores = SMALL, {"a": np.float64(0.5), "b": np.arange(3)}


class Hyperparameters(dict[str, Any]):
    """Stands for a class of omegaconf."""


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a trainer leaves beside the weights; its classes cannot be imported any more when it is read."""
    module = ModuleType(LIGHTNING)
    for kind in (Callback, Hyperparameters):
        monkeypatch.setattr(kind, "__module__", LIGHTNING)
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, LIGHTNING, module)
    return {
        "callbacks": {Callback: {"best_model_score": SMALL, "monitor": "val/loss"}, "again": Callback()},
        "hyper_parameters": Hyperparameters(config=[Hyperparameters(a=1)], size=(512, 512)),
        "optimizer_states": [{"state": defaultdict(list, {0: [SMALL]}), "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [{"step": partial(max, 1), "since": timedelta(1), "of": {1, 2}, "path": Path("a")}],
        "namespace": SimpleNamespace(a=bytearray(b"b"), c=complex(1, 2), d=slice(3)),
    }


def test_what_a_trainer_leaves_in_a_checkpoint_is_passed_over(
    tmp_path: Path, lightning: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.ckpt", {**lightning, "state_dict": {"weight": SMALL}})
    monkeypatch.delitem(sys.modules, LIGHTNING)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    file = PickledFile(path)
    assert list(file.header) == ["weight"]
    assert torch.equal(file.read("weight"), SMALL)


class Attack:
    """Calls something when it is unpickled as pickles are."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._call = call, arguments

    def __reduce__(self) -> Any:
        return self._call


def attacks(marker: Path) -> dict[str, Any]:
    command, code = f"touch {marker}", f"__import__('os').system('touch {marker}')"
    return {
        "a shell": Attack(os.system, command),
        "python": Attack(eval, code),
        "more python": Attack(exec, code),
        "a file": Attack(open, str(marker), "w"),
        "an attribute": Attack(importlib.import_module, "antigravity"),
        "a path": Attack(Path.touch, marker),
        "numpy's loader": Attack(np.load, str(marker), None, True),
        "torch's loader": Attack(torch.load, str(marker)),
        "nested": Attack(map, Attack(eval, code), [Attack(os.system, command)]),
    }


@pytest.mark.parametrize("name", attacks(Path("a")))
@pytest.mark.parametrize(
    "hide",
    [
        lambda attack: {"state_dict": {"weight": SMALL, "attack": attack}},
        lambda attack: {"state_dict": {"weight": SMALL}, "callbacks": {"a": [{"b": (attack,)}]}},
        lambda attack: attack,
        lambda attack: {"state_dict": {"weight": SMALL}, attack: 1},
    ],
    ids=["in the weights", "beside them", "instead of them", "as a name"],
)
def test_an_attack_does_nothing(tmp_path: Path, name: str, hide: Callable[[Any], Any]) -> None:
    marker = tmp_path / "marker"
    refusal = refusal_of(save(tmp_path / "a.ckpt", hide(attacks(marker)[name])))
    assert "none of it was run" in refusal or name in ("a path", "numpy's loader", "torch's loader")
    assert not marker.exists()
    assert "antigravity" not in sys.modules


def refusal_of(path: Path) -> str:
    """What is said of a file; nothing where it can be read."""
    try:
        assert set(PickledFile(path).header) <= {"weight"}
    except CheckpointRefused as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch MARKER'\ntR.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
        b"(S'touch MARKER'\nios\nsystem\n.",
        b"cbuiltins\ngetattr\n(cos\nS'system'\n.",
        b"ctorch\nserialization.os.system\n(S'touch MARKER'\ntR.",
        b"ccollections\nOrderedDict\n)R(dS'__class__'\ncos\nsystem\nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(S'__code__'\nI1\ndb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N(S'__defaults__'\n(cos\nsystem\nttdtb.",
        b"\x82\x01.",
    ],
)
def test_a_program_written_by_hand_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    path = replace_pickle(save(tmp_path / "a.ckpt", {"weight": SMALL}), program)
    assert "\n" not in refusal_of(path)
    assert not (tmp_path / "MARKER").exists()
    # What is read next is not harmed either.
    assert torch.equal(PickledFile(save(tmp_path / "b.ckpt", {"weight": SMALL})).read("weight"), SMALL)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_changed_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = save(tmp_path / "a.ckpt", {"state_dict": OrderedDict(a=SMALL, b=SMALL[1:]), "rest": [1, "x", None]})
    content = bytearray(pickle_of(path))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 127))
    with suppress(CheckpointRefused):
        file = PickledFile(replace_pickle(path, bytes(content)))
        assert all(file.read(name).numel() <= 12 for name in file.header)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage(path: Path) -> None:
    content = path.read_bytes()
    place = content.index(struct.pack("<4f", 0, 1, 2, 3))
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])


def drop_a_storage(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/data/0")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def blow_up(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (truncate, "only the beginning.*download it again"),
        (damage, "damaged, download it again"),
        (drop_a_storage, "lacks a part.*download it again"),
        (blow_up, "another size than it says"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    path = save(tmp_path / "a.ckpt", {"weight": SMALL.repeat(20, 1)})
    spoil(path)
    with pytest.raises(CheckpointBroken, match=says):
        open_weight_file(path).read("weight")


def as_zip(**files: str) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def as_old(content: Any) -> bytes:
    torch.save(content, buffer := io.BytesIO(), _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty; download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265380512\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "web page.*log in"),
        (b'{"error":"Access to model is restricted"}', "web page"),
        (b"\x1f\x8b\x08\x00", "compressed archive; unpack"),
        (as_zip(**{"readme.txt": "a"}), "zip archive and no checkpoint"),
        (as_zip(a__data="", **{"a/data.pkl": ".", "a/constants.pkl": "."}), "TorchScript"),
        (as_zip(**{"a/data.pkl": ".", "a/byteorder": "big"}), "big-endian"),
        (as_old({"weight": SMALL}), "older than 1.6"),
        (b"a" * 257 + b"ustar", "older than 1.6"),
        (b"no weights at all", "truncated or not"),
    ],
)
def test_what_lies_under_the_name_of_a_checkpoint_is_told(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "sd-v1-4.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointRefused, match=says) as caught:
        open_weight_file(path)
    assert "\n" not in str(caught.value)


def test_the_kind_is_told_by_the_content(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": SMALL}, tmp_path / "a.ckpt")
    save(tmp_path / "b.safetensors", {"weight": SMALL})
    files = [open_weight_file(tmp_path / name) for name in ("a.ckpt", "b.safetensors")]
    assert [type(file) for file in files] == [SafetensorsFile, PickledFile]
    assert all(torch.equal(file.read("weight"), SMALL) for file in files)
