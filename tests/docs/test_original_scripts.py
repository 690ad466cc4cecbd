"""The page on the original scripts has every flag they had and we take, and no other."""

import re
from pathlib import Path

import click
import pytest

from producer.cli import cli
from producer.originals import DEFAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "from-the-original-scripts.md").read_text(encoding="utf-8")
TABLES = {
    heading: dict(re.findall(r"^\| `--([\w-]+)` \| (.*?) \|", part, re.MULTILINE))
    for heading, part in re.findall(r"^## (\S.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
#: The flags of the scripts, read off them.
ALIKE = {
    "prompt", "outdir", "skip_grid", "skip_save", "ddim_steps", "ddim_eta", "n_iter", "n_samples", "n_rows", "scale",
    "from-file", "seed", "precision",
}  # fmt: skip
COMPVIS = {*ALIKE, "plms", "fixed_code", "C", "f", "config", "ckpt"}
FORK = {*ALIKE, "H", "W", "device", "unet_bs", "turbo", "format", "sampler"}
SCRIPTS = {
    "scripts/txt2img.py": {*COMPVIS, "dpm_solver", "laion400m", "H", "W"},
    "scripts/img2img.py": {*COMPVIS, "init-img", "strength"},
    "optimizedSD/optimized_txt2img.py": {*FORK, "fixed_code", "C", "f", "ckpt"},
    "optimizedSD/optimized_img2img.py": {*FORK, "init-img", "strength"},
    "scripts/inpaint.py": {"indir", "outdir", "steps"},
}
RUNS = {
    "scripts/txt2img.py": ("txt2img", "compvis"),
    "scripts/img2img.py": ("img2img", "compvis"),
    "optimizedSD/optimized_txt2img.py": ("txt2img", "optimized"),
    "optimizedSD/optimized_img2img.py": ("img2img", "optimized"),
}


def accepted(name: str) -> set[str]:
    command: click.Command = cli.commands[name]
    return {flag.removeprefix("--") for parameter in command.params for flag in parameter.opts}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_a_script_has_its_line(script: str) -> None:
    assert set(TABLES[script]) == SCRIPTS[script]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_a_script_is_taken(script: str) -> None:
    name = RUNS[script][0] if script in RUNS else "inpaint"
    assert SCRIPTS[script] - accepted(name) == set()


@pytest.mark.parametrize("name", ["txt2img", "img2img"])
def test_every_flag_that_is_taken_is_a_scripts_or_our_own(name: str) -> None:
    scripts = [flag for script, (command, _) in RUNS.items() if command == name for flag in SCRIPTS[script]]
    assert accepted(name) == {*scripts, *TABLES["Flags of our own"]}


def test_every_flag_of_inpaint_is_on_the_page() -> None:
    section = PAGE.partition("## scripts/inpaint.py")[2].partition("\n## ")[0]
    assert set(re.findall(r"`--([\w-]+)`", section)) == accepted("inpaint")


@pytest.mark.parametrize("script", RUNS)
def test_the_defaults_are_those_of_the_page(script: str) -> None:
    page = {flag: default.strip("`") for flag, default in TABLES[script].items()}
    for flag, default in DEFAULTS[RUNS[script]].items():
        if flag in page and flag != "sampler":
            assert str(default) == page[flag]
