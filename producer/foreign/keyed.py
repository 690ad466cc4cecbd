"""Programs that write names and values: InvokeAI, SwarmUI, Fooocus, NovelAI, Easy Diffusion, Draw Things."""

import re
from collections.abc import Mapping
from typing import Any

from producer.foreign.recipe import Recipe, join, make_recipe

INVOKE = {
    "positive_prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed", "steps": "steps",
    "cfg_scale": "scale", "scheduler": "sampler", "width": "width", "height": "height", "strength": "strength",
    "model_name": "model", "model_hash": "model_hash",
}  # fmt: skip
LEGACY_INVOKE = {
    "prompt": "prompt", "seed": "seed", "steps": "steps", "cfg_scale": "scale", "sampler": "sampler", "width": "width",
    "height": "height", "strength": "strength", "model_weights": "model", "model_hash": "model_hash",
}  # fmt: skip
SWARM = {
    "prompt": "prompt", "negativeprompt": "negative_prompt", "seed": "seed", "steps": "steps", "cfgscale": "scale",
    "sampler": "sampler", "scheduler": "schedule", "width": "width", "height": "height", "model": "model",
    "initimagecreativity": "strength",
}  # fmt: skip
FOOOCUS = {
    "prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed", "steps": "steps",
    "guidance_scale": "scale", "sampler": "sampler", "scheduler": "schedule", "base_model": "model",
    "base_model_hash": "model_hash", "width": "width", "height": "height",
}  # fmt: skip
NOVELAI = {
    "prompt": "prompt", "uc": "negative_prompt", "seed": "seed", "steps": "steps", "scale": "scale",
    "sampler": "sampler", "noise_schedule": "schedule", "width": "width", "height": "height", "strength": "strength",
    "Source": "model",
}  # fmt: skip
EASY = {
    "prompt": "prompt", "negative_prompt": "negative_prompt", "seed": "seed", "num_inference_steps": "steps",
    "guidance_scale": "scale", "sampler_name": "sampler", "width": "width", "height": "height",
    "use_stable_diffusion_model": "model", "stable_diffusion_model": "model", "steps": "steps", "sampler": "sampler",
    "prompt_strength": "strength",
}  # fmt: skip
DRAW_THINGS = {
    "c": "prompt", "uc": "negative_prompt", "seed": "seed", "steps": "steps", "scale": "scale", "sampler": "sampler",
    "width": "width", "height": "height", "model": "model", "strength": "strength",
}  # fmt: skip
RESOLUTION = re.compile(r"\(?\s*(\d{1,6})\s*[,x×]\s*(\d{1,6})\s*\)?")
#: A command of the oldest InvokeAI: the prompt in quotes, then flags of one letter.
DREAM = re.compile(r'"(?P<prompt>.*)"(?P<flags>.*)', re.DOTALL)
FLAGS = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "scale", "A": "sampler", "f": "strength"}


def invoke(found: Mapping[str, Any]) -> Recipe:
    """`invokeai_metadata`: names and values, but for the model, which has some of its own."""
    model = found.get("model")
    if isinstance(model, Mapping):
        inner = {f"model_{key}": value for key, value in model.items()}
        found = {**{key: value for key, value in found.items() if key != "model"}, **inner}
    return make_recipe("InvokeAI", found, INVOKE)


def legacy_invoke(found: Mapping[str, Any]) -> Recipe:
    """`sd-metadata`: an image within, whose prompt may be a list of weighted ones."""
    image = found.get("image")
    flat = {
        **{key: value for key, value in found.items() if key != "image"},
        **(image if isinstance(image, Mapping) else {}),
    }
    if isinstance(prompts := flat.get("prompt"), list):
        parts = [part.get("prompt", "") for part in prompts if isinstance(part, Mapping)]
        flat["prompt"] = join(str(part) for part in parts)
    return make_recipe("InvokeAI", flat, LEGACY_INVOKE)


def dream(text: str) -> Recipe | None:
    """`Dream`: the command that made it."""
    found = DREAM.fullmatch(text.strip())
    if not found:
        return None
    flags = dict(re.findall(r"-([A-Za-z])\s*(\S+)", found["flags"]))
    return make_recipe("InvokeAI", {"prompt": found["prompt"], **flags}, {"prompt": "prompt", **FLAGS})


def swarm(found: Mapping[str, Any]) -> Recipe:
    """`sui_image_params`, and beside it what the image cost."""
    params = found.get("sui_image_params")
    rest = {key: value for key, value in found.items() if key != "sui_image_params"}
    return make_recipe("SwarmUI", {**(params if isinstance(params, Mapping) else {}), **rest}, SWARM)


def fooocus(found: Mapping[str, Any]) -> Recipe:
    """The scheme `fooocus`; its resolution is a pair in brackets."""
    flat = dict(found)
    if size := RESOLUTION.fullmatch(str(flat.get("resolution", ""))):
        del flat["resolution"]
        flat |= {"width": size[1], "height": size[2]}
    return make_recipe("Fooocus", flat, FOOOCUS)


def novelai(comment: Mapping[str, Any], texts: Mapping[str, str]) -> Recipe:
    """`Comment`, and the prompt in `Description` where it is not in there."""
    beside = {key: texts[key] for key in ("Source", "Software", "Title", "Generation time") if key in texts}
    prompt = {} if comment.get("prompt") else {"prompt": texts.get("Description", "")}
    return make_recipe("NovelAI", {**comment, **prompt, **beside}, NOVELAI)


def easy_diffusion(found: Mapping[str, Any]) -> Recipe:
    """A chunk for each name, in either of two ways of writing it."""
    names = {key: ours for key in found if (ours := EASY.get(key.lower().replace(" ", "_")))}
    return make_recipe("Easy Diffusion", found, names)


def draw_things(found: Mapping[str, Any]) -> Recipe:
    """XMP's comment; its size is one text."""
    flat = dict(found)
    if size := RESOLUTION.fullmatch(str(flat.get("size", ""))):
        del flat["size"]
        flat |= {"width": size[1], "height": size[2]}
    return make_recipe("Draw Things", flat, DRAW_THINGS)
