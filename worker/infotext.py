"""Writes infotext, the A1111 `parameters` text: `configs.infotext` has its grammar and its reader."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

from configs.compat import describe_noise
from configs.infotext import NEGATIVE

SCHEDULE_TYPES = ("Karras", "Exponential", "SGM Uniform", "Beta")
"""A1111 up to 1.8 ends the sampler's name with these; later ones write them apart."""


def write_infotext(job: Mapping[str, Any]) -> str:
    """The infotext of an image, from its job's parameters and `checkpoint_hash`, by the ledger's words.

    Blanks around a line of a prompt do not survive the reader.
    """
    params = ", ".join(f"{key}: {_quote(value)}" for key, value in _params(job).items())
    negative = f"{NEGATIVE} {job['negative_prompt']}" if job.get("negative_prompt") else ""
    return "\n".join(part for part in (job["prompt"], negative, params) if part)


def _params(job: Mapping[str, Any]) -> dict[str, object]:
    """In the order of A1111's writer, which leaves out what does not apply."""
    sampler, schedule_type = _split_sampler(job["sampler"])
    params = {
        "Steps": job["steps"],
        "Sampler": sampler,
        "Schedule type": schedule_type,
        "CFG scale": job["scale"],
        "Seed": job["seed"],
        "Size": f"{job['width']}x{job['height']}",
        "Model hash": job["checkpoint_hash"][:10],
        "Model": PurePath(job["model"]).name.removesuffix(".safetensors").removesuffix(".ckpt"),
        "Denoising strength": job["strength"] if job.get("init_image") else None,
        # The edge of what was painted is hard.
        "Mask blur": 0 if job.get("mask_image") else None,
        "Eta": job.get("eta") or None,
        # A1111's word for CUDA's numbers, wherever they are drawn.
        "RNG": "NV" if job.get("noise") else "CPU",
        "Compat": job.get("compat"),
        "Noise": describe_noise(job["noise"]) if job.get("noise") else None,
        "Version": f"promptmill {_version()}",
    }
    return {key: value for key, value in params.items() if value is not None}


def _split_sampler(name: str) -> tuple[str, str | None]:
    """`DPM++ 2M Karras` is sampler `DPM++ 2M` with schedule type `Karras`."""
    for schedule_type in SCHEDULE_TYPES:
        if name.endswith(f" {schedule_type}"):
            return name.removesuffix(f" {schedule_type}"), schedule_type
    return name, None


@cache
def _version() -> str:
    try:
        return version("promptmill")
    except PackageNotFoundError:
        return "unknown"


def _quote(value: object) -> str:
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',\n:"') else text
