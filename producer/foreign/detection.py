"""Which program made an image, by the keys it has left.

The library sd-parsers (0.6) has no reader for SwarmUI, Easy Diffusion and Draw Things. Half of the work would be ours
all the same, and with one way of reading, whatever no field has is reported as it is.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from producer.foreign import comfy, infotext, keyed
from producer.foreign.recipe import Recipe
from producer.foreign.texts import parse_object, read_texts

Texts = Mapping[str, str]
#: Where infotext and JSON stand in JPEG and WebP, and in PNG.
PLACES = ("parameters", "UserComment", "ImageDescription")
#: A key each of Easy Diffusion's ways of writing has, and hardly anybody else.
EASY_KEYS = {"use_stable_diffusion_model", "Stable Diffusion model", "num_inference_steps"}


def read_recipe(path: Path) -> Recipe | None:
    """What an image says of how it was made; None where it says nothing that is known. Raises PictureUnreadable."""
    texts = read_texts(path)
    for find in (_parameters, _invoke, _comfy, _older_invoke, _novelai, _comment, _easy, _draw_things):
        with suppress(RecursionError):
            if recipe := find(texts):
                return recipe
    return None


def _parameters(texts: Texts) -> Recipe | None:
    """Infotext, or JSON in its place."""
    for text in _found(texts, PLACES):
        found = parse_object(text)
        if "sui_image_params" in found:
            return keyed.swarm(found)
        if recipe := _json(found, texts) if found else infotext.read(text):
            return recipe
    return None


def _json(found: Mapping[str, object], texts: Texts) -> Recipe | None:
    if texts.get("fooocus_scheme") == "fooocus" or "base_model" in found or "Fooocus" in str(found.get("version", "")):
        return keyed.fooocus(found)
    if EASY_KEYS & found.keys():
        return keyed.easy_diffusion(found)
    # What ComfyUI's nodes for JPEG and WebP write.
    return comfy.read(found)


def _invoke(texts: Texts) -> Recipe | None:
    found = parse_object(texts.get("invokeai_metadata"))
    return keyed.invoke(found) if found else None


def _comfy(texts: Texts) -> Recipe | None:
    found = parse_object(texts.get("prompt")) or _after_label(texts)
    return comfy.read(found) if found else None


def _after_label(texts: Texts) -> dict[str, object]:
    """In WebP, ComfyUI puts `prompt:` before the graph, in one of two tags."""
    for text in _found(texts, ("Model", "Make")):
        if text.startswith("prompt:"):
            return parse_object(text.removeprefix("prompt:"))
    return {}


def _older_invoke(texts: Texts) -> Recipe | None:
    if found := parse_object(texts.get("sd-metadata")):
        return keyed.legacy_invoke(found)
    return keyed.dream(texts["Dream"]) if "Dream" in texts else None


def _novelai(texts: Texts) -> Recipe | None:
    comment = parse_object(texts.get("Comment"))
    is_theirs = texts.get("Software") == "NovelAI" or {"uc", "scale"} <= comment.keys()
    return keyed.novelai(comment, texts) if comment and is_theirs else None


def _comment(texts: Texts) -> Recipe | None:
    found = parse_object(texts.get("Comment"))
    return _json(found, texts) if found else None


def _easy(texts: Texts) -> Recipe | None:
    return keyed.easy_diffusion(texts) if EASY_KEYS & texts.keys() else None


def _draw_things(texts: Texts) -> Recipe | None:
    for text in _found(texts, ("xmp:UserComment", "UserComment")):
        if "c" in (found := parse_object(text)):
            return keyed.draw_things(found)
    return None


def _found(texts: Texts, keys: tuple[str, ...]) -> Iterator[str]:
    return (texts[key] for key in keys if texts.get(key))
