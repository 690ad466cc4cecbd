"""The parameters of a job by themselves."""

from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.parameters import MAX_SEED, PARAMETERS, Parameters, read_parameter
from configs.settings import DEFAULTS, PRESETS, read_preset, read_toml


def test_every_parameter_of_a_job_can_be_read() -> None:
    assert set(Parameters.__struct_fields__) == set(PARAMETERS)


def test_every_default_is_allowed_as_it_is_written() -> None:
    job = read_toml(DEFAULTS)["job"]
    assert {name: read_parameter(name, value) for name, value in job.items()} == job


def test_the_defaults_lack_nothing_but_the_prompt_and_the_size() -> None:
    job = read_toml(DEFAULTS)["job"]
    assert Parameters(**{**job, "prompt": "cat", "width": 64, "height": 64}).sampler == "DPM++ 2M Karras"


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_every_preset_is_allowed(preset: str) -> None:
    tables = read_preset(preset)
    job = tables.pop("job", {})
    assert {name: read_parameter(name, value) for name, value in job.items()} == job
    assert set(tables) <= {"worker"}


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("steps", 20, 20),
        ("steps", "1000", 1000),
        ("steps", 20.0, 20),
        ("seed", str(MAX_SEED), MAX_SEED),
        ("seed", f"{MAX_SEED}.0", MAX_SEED),
        ("seed", "0", 0),
        ("scale", 0, 0.0),
        ("scale", "1e1", 10.0),
        ("scale", " 1.5", 1.5),
        ("strength", "1", 1.0),
        ("width", "64", 64),
        ("sampler", "k_dpmpp_2m_ka", "DPM++ 2M Karras"),
        ("model", " demo ", "demo"),
        ("model", "/on/the/worker", "/on/the/worker"),
        ("negative_prompt", "", ""),
        ("precision", "half", "float16"),
        ("precision", " BF16 ", "bfloat16"),
        ("precision", "full", "float32"),
        ("precision", "autocast", "autocast"),
        ("compat", " CompVis ", "compvis"),
        ("weights", "on", True),
        ("weights", False, False),
    ],
)
def test_a_value_is_read_as_its_own_type(name: str, value: object, read: object) -> None:
    found = read_parameter(name, value)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name not in ("prompt", "negative_prompt")])
@pytest.mark.parametrize("value", ["", "\0", "x\ny", None, True, False, [], {}, b"1", float("nan")])
def test_what_is_no_value_is_refused(name: str, value: object) -> None:
    if name == "weights" and isinstance(value, bool):
        value = "perhaps"
    with pytest.raises(ConfigError):
        read_parameter(name, value)


def test_the_home_of_nobody_is_no_model() -> None:
    with pytest.raises(ConfigError, match="is not demo, a name of `promptmill models`, a file or folder, or a hub id"):
        read_parameter("model", "~nobody-of-this-name/model")


def test_a_model_that_is_here_is_kept_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert read_parameter("model", "here.safetensors") == str(tmp_path / "here.safetensors")
