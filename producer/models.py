"""Models under short names: added, listed, converted, verified. A process of the worker's looks into the files."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from configs.models import NAME, RESERVED, Model, find_model, read_models, write_models
from producer.child import PYTHON
from producer.errors import ModelRefused, NoSuchModel

SUFFIX = ".safetensors"


class Verdict(NamedTuple):
    """Whether a name still stands for the weights it was given to; ``detail`` says what else."""

    name: str
    ok: bool
    detail: str


def add_model(name: str, path: Path) -> Model:
    """Give a checkpoint a name. Raises ModelRefused, also where the name is taken."""
    if not NAME.fullmatch(name) or name in RESERVED:
        raise NoSuchModel(f"{name!r} cannot be a model's name; take letters, digits, and . _ + - after the first.")
    if find_model(name):
        raise NoSuchModel(f"There is a model {name} already; `promptmill models remove {name}` frees the name.")
    model = inspect(path)
    write_models({**read_models(), name: model})
    return model


def remove_model(name: str) -> Model:
    """Forget a name; the files stay. Raises NoSuchModel."""
    model = known_model(name)
    write_models({other: found for other, found in read_models().items() if other != name})
    return model


def convert_model(source: str, target: Path | None, precision: str, *, averaged: bool = False) -> Model:
    """Write a single file anew; where the source is a name, it stands for the new file then.

    Raises ModelRefused, NoSuchModel.
    """
    known = find_model(source)
    path = Path(known.path if known else source).expanduser()
    target = (target or _target(path, precision, averaged=averaged)).expanduser()
    if target.exists():
        raise NoSuchModel(f"{target} exists; delete it, or name another file.")
    options = ["--precision", precision, *(["--ema"] if averaged else [])]
    model = _read(_ask("convert", *options, "--", str(path), str(target)))
    if known:
        write_models({**read_models(), source: model})
    return model


def inspect(path: Path) -> Model:
    """What a file or a diffusers folder is. Raises ModelRefused."""
    return _read(_ask("inspect", "--", str(path.expanduser().absolute())))


def verify_models(names: Sequence[str]) -> Iterator[Verdict]:
    """Compare the files of those names, or of all, with what they were when they were added. Raises NoSuchModel."""
    for name in names or read_models():
        known = known_model(name)
        try:
            found = inspect(Path(known.path))
        except ModelRefused as error:
            yield Verdict(name, False, str(error))
            continue
        same = found.sha256 == known.sha256
        yield Verdict(name, same, known.path if same else f"{known.path} has changed: sha256 is now {found.sha256}")


def known_model(name: str) -> Model:
    """Raises NoSuchModel."""
    model = find_model(name)
    if model is None:
        raise NoSuchModel(f"There is no model {name}; `promptmill models list` shows all names.")
    return model


def _target(path: Path, precision: str, *, averaged: bool) -> Path:
    """Beside the source, under a name of its own."""
    stem = f"{path.stem}-ema" if averaged else path.stem
    plain = path.with_name(stem + SUFFIX)
    return plain if plain != path else path.with_name(f"{stem}-{precision}{SUFFIX}")


def _ask(*words: str) -> dict[str, Any]:
    """What `python -m worker.models` answers; how far it is goes to the terminal. Raises ModelRefused."""
    process = subprocess.run([*PYTHON, "-m", "worker.models", *words], stdout=subprocess.PIPE, text=True, check=False)
    try:
        answer = dict(json.loads(process.stdout))
    except ValueError as error:
        raise ModelRefused(f"The file could not be read: exit code {process.returncode}.") from error
    if "error" in answer:
        raise ModelRefused(answer["error"])
    return answer


def _read(answer: dict[str, Any]) -> Model:
    return msgspec.convert(answer, Model)
