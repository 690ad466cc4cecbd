"""A1111 and its kin: Forge, reForge, SD.Next, and whoever else writes infotext."""

from configs.infotext import parse_infotext
from producer.foreign.recipe import Recipe, make_recipe

NAMES = {
    "Prompt": "prompt", "Negative prompt": "negative_prompt", "Steps": "steps", "Sampler": "sampler", "Seed": "seed",
    "Schedule type": "schedule", "Scheduler": "schedule", "CFG scale": "scale", "Size-1": "width", "Size-2": "height",
    "Model": "model", "Model hash": "model_hash", "Denoising strength": "strength",
}  # fmt: skip


def read(text: str) -> Recipe | None:
    """Infotext as a recipe; None where a text has no more than words."""
    found = parse_infotext(text)
    if not found.keys() - {"Prompt", "Negative prompt"}:
        return None
    return make_recipe(_tool(found.get("Version", ""), found.get("App", "")), found, NAMES)


def _tool(version: str, app: str) -> str:
    if version.startswith("promptmill"):
        return "Promptmill"
    if version.startswith("Fooocus"):
        return "Fooocus"
    if app:
        return app
    # Forge calls its versions f2.0.1v1.10.1.
    return "Forge" if version[:1] == "f" and version[1:2].isdigit() else "A1111"
