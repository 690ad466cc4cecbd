"""What rows may say that come from another machine: models go by a name or a hub id, and no path is looked up."""

import re
from pathlib import Path

from configs.checkpoints import DEMO
from configs.errors import InvalidParameter
from configs.models import find_model
from producer.columns import PICTURES

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def refuse_path(name: str, value: object) -> None:
    """Raises InvalidParameter where a parameter's value is or may be a path of this machine."""
    if name == "model" and isinstance(value, str):
        model = value.strip()
        is_hub_id = HUB_ID.fullmatch(model) and not Path(model).exists()
        if not (model == DEMO or is_hub_id or find_model(model)):
            raise InvalidParameter(
                f"{model!r:.80} is not {DEMO}, a name of `promptmill models`, or a hub id such as owner/name"
            )
    if name in PICTURES:
        raise InvalidParameter("cannot be named from another machine; begin from a picture on the page for it")
