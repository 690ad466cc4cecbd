"""The files that a diffusers folder must have beside its weights."""

import json
from pathlib import Path
from typing import Any

from configs.checkpoints import Way
from worker.errors import CheckpointBroken

NEEDED = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "vae/config.json",
)
NEEDED_BY_SDXL = ("text_encoder_2/config.json", "tokenizer_2/tokenizer_config.json")
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""A tokenizer has the files of one of these."""


def check_files(folder: Path, way: Way) -> None:
    """Refuse a folder that lacks a file, before anything is loaded; of other pipelines, diffusers knows what they need.

    Without `tokenizer_config.json` a tokenizer would load, and cut nothing. Raises CheckpointBroken.
    """
    if way is Way.PLAIN:
        return
    needed = NEEDED + (NEEDED_BY_SDXL if way is Way.SDXL else ())
    for name in needed:
        if not (folder / name).is_file():
            raise CheckpointBroken(f"{folder / name} is missing, so this is no complete diffusers folder.")
    for name in needed:
        if name.endswith("tokenizer_config.json"):
            _check_vocabulary((folder / name).parent)


def read_json(path: Path) -> dict[str, Any]:
    """Raises CheckpointBroken where there is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointBroken(f"{path} is missing, so this is no complete diffusers folder.") from error
    except (OSError, ValueError) as error:
        raise CheckpointBroken(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointBroken(f"{path} does not hold a JSON object; download it again.")
    return content


def _check_vocabulary(tokenizer: Path) -> None:
    lacking = [[name for name in names if not (tokenizer / name).is_file()] for names in VOCABULARIES]
    if all(lacking):
        raise CheckpointBroken(f"{tokenizer / lacking[-1][0]} is missing, so this is no complete diffusers folder.")
