"""Writes docs/configuration.md: ``python docs/generate_configuration.py``.

The fields, their defaults and their ``#:`` comments are read from configs/settings.py, the rest from configs/*.toml.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PAGE = ROOT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

<!-- Written by docs/generate_configuration.py; change configs/settings.py or that script instead. -->

A setting comes from the first of these places that has it:

1. an environment variable `PROMPTMILL_…`; an empty one counts as not set,
2. `promptmill.toml` in the current folder, or, where there is none, in the home folder (`PROMPTMILL_HOME`),
3. the default.

A value that its setting cannot take, or a name in the file that is no setting, ends every command with a sentence and
exit code 2. Relative paths start from the current folder, and `~` is the user's own folder. The worker takes the same
settings as the producer; what both must agree on is in [deployment.md](deployment.md).

## Settings
"""

JOB = """\
## A job's parameters

What a job gets where nobody says anything. Weakest first: this table, `[job]` in `promptmill.toml`, `--preset`, the
flags of the command, the cell of the row ([prompt-files.md](prompt-files.md)).
"""

AFTER_JOB = """\
`width` and `height` have no default: they are the size the checkpoint was trained on
([checkpoints.md](checkpoints.md)). `sampler` is for checkpoints that take one; the others run their own.

## Presets

`promptmill render FILE --preset NAME` takes one of these. What is under `[job]` goes over the settings and under the
flags. What is under `[worker]` is given to the worker that the command starts. `promptmill worker` takes it too;
for `promptmill submit` that part means nothing.
"""

EXAMPLE = """\
## An example

A `promptmill.toml` for a machine with a large disk for images, and another default checkpoint. The table `[job]` takes
any parameter of a job but `prompt`; it has no environment variable.

```toml
images = "/srv/images"
image_format = "webp"
disk_watermark_mb = 5000

[job]
model = "stable-diffusion-v1-5/stable-diffusion-v1-5"
negative_prompt = "blurry, low quality"
steps = 30
```

The same with variables, for one command:

```console
$ PROMPTMILL_IMAGES=/srv/images PROMPTMILL_IMAGE_FORMAT=webp promptmill render prompts.csv --steps 30
```

`PROMPTMILL_HOME` decides where `promptmill.toml` is looked for, so it is best set as a variable. URLs may hold
passwords: give them as variables, which no file in a repository shows. Promptmill prints URLs without their passwords.

Hub ids are fetched with the libraries of Hugging Face, which have variables of their own: `HF_HOME` is the folder of
what was fetched, `HF_HUB_OFFLINE=1` forbids to fetch, `HF_TOKEN` opens gated repositories.
"""


class Field(NamedTuple):
    """A setting: its name, default, allowed values and meaning."""

    name: str
    default: str
    allowed: str
    meaning: str


def fields() -> list[Field]:
    """The fields of Settings, in their order."""
    source = (CONFIGS / "settings.py").read_text(encoding="utf-8")
    body = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Settings").body
    found = [node for node in body if isinstance(node, ast.AnnAssign)]
    return [_field(node, source.splitlines()) for node in found]


def render() -> str:
    """The whole page."""
    settings = _table(("Setting", "Environment variable", "Default", "Meaning"), _settings_rows())
    defaults = (CONFIGS / "default.toml").read_text(encoding="utf-8")
    job = _table(("Parameter", "Default"), _pairs(defaults))
    return "\n".join([INTRODUCTION, settings, JOB, job, AFTER_JOB, *_presets(), EXAMPLE])


def _field(node: ast.AnnAssign, lines: list[str]) -> Field:
    assert isinstance(node.target, ast.Name)
    default = _default(node.value)
    return Field(node.target.id, default, _allowed(ast.unparse(node.annotation)), _comment(lines, node.lineno - 1))


def _default(value: ast.expr | None) -> str:
    """As one writes it in TOML; empty for None."""
    if isinstance(value, ast.Call):
        value = value.args[0]
    if isinstance(value, ast.Dict):
        return "see below"
    found = ast.literal_eval(value) if value else None
    return "" if found is None else f"`{str(found).lower() if isinstance(found, bool) else found}`"


def _comment(lines: list[str], end: int) -> str:
    """The ``#:`` comment that ends before the line with that index."""
    start = end
    while lines[start - 1].lstrip().startswith("#:"):
        start -= 1
    return " ".join(line.strip().removeprefix("#:").strip() for line in lines[start:end]).replace("``", "`")


def _allowed(annotation: str) -> str:
    """What the type says beside its name: `One of …`, `At least 1`."""
    if found := re.search(r"Literal\[(.*?)\]", annotation):
        return f"One of {', '.join(f'`{ast.literal_eval(word)}`' for word in found[1].split(', '))}."
    if annotation == "Positive":
        return "At least 1."
    found = re.search(r"ge=(\d+)", annotation)
    return f"At least {found[1]}." if found else ""


def _settings_rows() -> Iterator[tuple[str, ...]]:
    for field in fields():
        variable = "" if field.name == "job" else f"`PROMPTMILL_{field.name.upper()}`"
        meaning = field.meaning or {"image_format": "Format of the images.", "job": "A job's parameters."}[field.name]
        yield f"`{field.name}`", variable, field.default or "none", f"{meaning} {field.allowed}".strip()


def _pairs(toml: str) -> Iterator[tuple[str, ...]]:
    """Names and values of a TOML file that has one a line."""
    for name, value in re.findall(r"^(\w+) = (.*)$", toml, re.MULTILINE):
        yield f"`{name}`", f"`{value}`"


def _presets() -> Iterator[str]:
    for path in sorted((CONFIGS / "presets").glob("*.toml")):
        comment, _, tables = path.read_text(encoding="utf-8").partition("\n\n")
        yield f"**{path.stem}**: {comment.removeprefix('# ')}\n\n```toml\n{tables.strip()}\n```\n"


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
