"""What is said about a batch by the web, as the flags of `producer.submit.check`."""

from typing import TYPE_CHECKING, Any

from configs.errors import InvalidParameter
from configs.parameters import PARAMETERS
from producer.outside import refuse_path
from producer.sweep import read_sweep

if TYPE_CHECKING:
    from producer.web.api.shapes import Options

SAME = ("name", "priority", "image_format", "preset", "template", "template_seed", "template_prompts")
TEXTS = ("prepend", "append", "append_negative")


def read_options(asked: "Options") -> dict[str, Any]:
    """The flags. Raises InvalidParameter."""
    for name in asked.defaults:
        if name not in PARAMETERS or name == "prompt":
            known = ", ".join(parameter for parameter in PARAMETERS if parameter != "prompt")
            raise InvalidParameter(f"{name!r:.60} is no parameter that has a default; there are {known}.")
    return {
        **asked.defaults,
        **{name: getattr(asked, name) for name in (*SAME, *TEXTS)},
        "style": tuple(asked.style) or None,
        "sweep": tuple(read_sweep(text, refuse_path) for text in asked.sweep) or None,
    }
