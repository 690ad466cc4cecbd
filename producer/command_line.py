"""The command that makes a job's image again, anywhere: one that any POSIX shell takes as it is."""

import json
import shlex
from typing import Any

from sqlalchemy import Row

from configs.parameters import PARAMETERS


def command_line(job: Row[Any]) -> str:
    """A `promptmill render` of one line of JSON; `promptmill rerun` where the noise is one image's of a run."""
    if job.noise:
        return f"promptmill rerun {job.id}"
    idle = {"num_images", *(() if job.init_image else ("strength",)), *(() if job.weights else ("weights",))}
    asked = {name: getattr(job, name) for name in PARAMETERS if name not in idle}
    line = json.dumps({name: value for name, value in asked.items() if value not in (None, "")})
    return f"printf '%s\\n' {shlex.quote(line)} | promptmill render -"
