"""Pickled checkpoints (`.ckpt`), read without running anything that stands in them.

`torch.save` writes a zip archive (torch/serialization.py): `data.pkl` describes the tensors, and each storage is a file
beside it, as it was in memory. A pickle is a program that may call whatever can be imported. Here it calls nothing:
each name in it becomes an inert object, but for the few that describe tensors. That also reads what PyTorch Lightning
leaves in a checkpoint (callbacks, hyperparameters), of which `torch.load(weights_only=True)` refuses the whole file.
"""

import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from worker.errors import CheckpointBroken, CheckpointUnsupported, refusing

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_LIMIT = 100_000_000
"""Bytes of `data.pkl`; that of Stable Diffusion has less than a million."""
BLOCK = 1 << 20
"""Bytes read at a time."""
HOSTILE = frozenset(
    {"bdb", "code", "commands", "ctypes", "importlib", "nt", "os", "pdb", "posix", "pty", "runpy", "shutil", "socket"}
    | {"subprocess", "sys", "timeit", "webbrowser"}
)
"""Modules of which no checkpoint needs anything, and an attack does."""
HOSTILE_CALLS = frozenset(
    f"{module}.{name}"
    for module in ("builtins", "__builtin__", "io")
    for name in ("__import__", "breakpoint", "compile", "eval", "exec", "execfile", "input", "open", "open_code")
)
"""The same of modules of which something is needed."""


class Kind(NamedTuple):
    """Of numbers: what the safetensors format and torch call them, and the bytes of one."""

    name: str
    torch_name: str
    size: int


STORAGES = {
    "DoubleStorage": Kind("F64", "float64", 8),
    "FloatStorage": Kind("F32", "float32", 4),
    "HalfStorage": Kind("F16", "float16", 2),
    "BFloat16Storage": Kind("BF16", "bfloat16", 2),
    "LongStorage": Kind("I64", "int64", 8),
    "IntStorage": Kind("I32", "int32", 4),
    "ShortStorage": Kind("I16", "int16", 2),
    "CharStorage": Kind("I8", "int8", 1),
    "ByteStorage": Kind("U8", "uint8", 1),
    "BoolStorage": Kind("BOOL", "bool", 1),
}
"""By torch's classes of storages."""


class Inert:
    """Whatever a pickle names that describes no tensor: it takes everything, and does nothing."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> "Inert":
        return super().__new__(cls)

    def __call__(self, *_: object) -> "Inert":
        return self

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...

    def add(self, _: object) -> None: ...


class Entries(dict[Any, Any]):
    """An OrderedDict of a pickle, without the attributes that a module's state dict has."""

    def __setstate__(self, _: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Storage:
    """A file of the archive: numbers of one kind."""

    name: str
    kind: Kind
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A part of a storage, by the number of its first element."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_sound(self) -> bool:
        """Whether it lies in its storage."""
        if len(self.shape) != len(self.stride) or min((self.start, *self.shape, *self.stride)) < 0:
            return False
        end = self.start + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True)) + 1
        return 0 in self.shape or end <= self.storage.count


class Reader(pickle.Unpickler):
    """Reads `data.pkl`. Nothing that it finds is imported, and nothing but what stands here is called."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self.hostile: set[str] = set()
        """Names in the pickle that would have run code elsewhere."""
        # Made anew for each file: a pickle may set attributes of what it is given.
        self._known: dict[str, Any] = {
            "collections.OrderedDict": Entries,
            "torch._utils._rebuild_tensor": _make_rebuild(),
            "torch._utils._rebuild_tensor_v2": _make_rebuild(),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            **{f"torch.{name}": kind for name, kind in STORAGES.items()},
        }

    def find_class(self, module: str, name: str, /) -> Any:
        """The place of the only danger: it imports nothing."""
        place = f"{module}.{name}"
        if place in HOSTILE_CALLS or module.partition(".")[0] in HOSTILE:
            self.hostile.add(place)
        return self._known.get(place, Inert)

    def persistent_load(self, pid: Any, /) -> Any:
        """What stands for a storage: a word, its kind, its file, the device it was on, its length."""
        if type(pid) is tuple and len(pid) == 5 and pid[0] == "storage":
            _, kind, name, _, count = pid
            if isinstance(kind, Kind) and isinstance(name, str) and isinstance(count, int):
                return Storage(name, kind, count)
        return Inert()


class PickledFile:
    """A checkpoint that `torch.save` has written, its tensors read one at a time."""

    def __init__(self, path: Path) -> None:
        """Read what it holds, and check that it is all there. Raises CheckpointBroken, CheckpointUnsupported."""
        self.path = path
        try:
            self._archive = ZipFile(path)
        except (BadZipFile, OSError) as error:
            raise CheckpointBroken(f"{path} is only the beginning of a file, or damaged; download it again.") from error
        self._root = _find_root(path, self._archive)
        self._tensors = dict(_named_tensors(self._read_pickle()))
        for storage in {tensor.storage for tensor in self._tensors.values()}:
            self._check(storage)
        self.header: Mapping[str, Any] = {
            name: {"dtype": tensor.storage.kind.name, "shape": list(tensor.shape)}
            for name, tensor in self._tensors.items()
        }
        """Kind and shape of each tensor, as in a safetensors file."""
        self._last: tuple[str, bytearray] = ("", bytearray())

    def read(self, name: str) -> "Tensor":
        """One tensor. Raises CheckpointBroken."""
        import torch

        tensor = self._tensors[name]
        content, dtype = self._read_storage(tensor.storage), getattr(torch, tensor.storage.kind.torch_name)
        numbers = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return numbers.as_strided(tensor.shape, tensor.stride, tensor.start)

    def _read_pickle(self) -> Any:
        info = self._archive.getinfo(f"{self._root}/data.pkl")
        if info.file_size > PICKLE_LIMIT:
            raise CheckpointUnsupported(f"{self.path} describes its tensors in {info.file_size} bytes: it is no model.")
        with refusing(CheckpointBroken, f"{self.path} cannot be read"):
            reader = Reader(self._archive.read(info))
            content = reader.load()
        if reader.hostile:
            raise CheckpointUnsupported(
                f"{self.path} would run code where it is trusted ({min(reader.hostile)}); none of it was run here. "
                "Delete it, and get the checkpoint as .safetensors from a place you trust."
            )
        return content

    def _check(self, storage: Storage) -> None:
        try:
            info = self._archive.getinfo(self._place(storage))
        except KeyError as error:
            raise CheckpointBroken(f"{self.path} lacks a part of its weights; download it again.") from error
        # Torch compresses nothing; a small file that becomes a large one is an attack.
        if not info.compress_size == info.file_size == storage.count * storage.kind.size:
            raise CheckpointBroken(f"{self.path} has weights of another size than it says; download it again.")

    def _read_storage(self, storage: Storage) -> bytearray:
        """Its bytes, their checksum compared. The last one is kept: several tensors may lie in one."""
        if self._last[0] != storage.name:
            # Not two of them at a time, which may be large.
            self._last = "", bytearray()
            with refusing(CheckpointBroken, f"{self.path} is damaged, download it again"):
                self._last = storage.name, self._read_file(storage)
        return self._last[1]

    def _read_file(self, storage: Storage) -> bytearray:
        content, end = bytearray(storage.count * storage.kind.size), 0
        with self._archive.open(self._place(storage)) as file:
            while block := file.read(BLOCK):
                content[end : end + len(block)] = block
                end += len(block)
        return content

    def _place(self, storage: Storage) -> str:
        return f"{self._root}/data/{storage.name}"


def _make_rebuild() -> Callable[..., StoredTensor]:
    def rebuild(storage: Any, start: Any, shape: Any, stride: Any, *_: object) -> StoredTensor:
        numbers = (start, *shape, *stride)
        tensor = StoredTensor(storage, start, tuple(shape), tuple(stride))
        if not (isinstance(storage, Storage) and all(type(number) is int for number in numbers) and tensor.is_sound):
            raise pickle.UnpicklingError("a tensor is outside of its storage")
        return tensor

    return rebuild


def _find_root(path: Path, archive: ZipFile) -> str:
    """The folder in the archive that all is in."""
    names = archive.namelist()
    root = next((name.partition("/")[0] for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
    if root is None:
        raise CheckpointUnsupported(f"{path} is a zip archive and no checkpoint; unpack it, and give what is inside.")
    if f"{root}/constants.pkl" in names:
        raise CheckpointUnsupported(f"{path} is a TorchScript program and no checkpoint.")
    if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
        raise CheckpointUnsupported(f"{path} was saved on a big-endian machine; save it again on another.")
    return root


def _named_tensors(content: Any) -> Iterator[tuple[str, StoredTensor]]:
    """Those of the state dict, which may be all there is, or lie under that name."""
    while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(name, str) and isinstance(value, StoredTensor):
            yield name, value
