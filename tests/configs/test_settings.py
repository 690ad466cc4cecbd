"""Where settings come from, and what they take."""

from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.settings import FILE_NAME, read_settings


@pytest.mark.parametrize("written", ['vram = "6G"', "vram = 6442450944"])
def test_the_cap_is_read_from_the_file(tmp_path: Path, written: str) -> None:
    (tmp_path / FILE_NAME).write_text(written)
    assert read_settings({}, tmp_path).vram == 6 * 2**30


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('vram = "6G"\noffload = true')
    settings = read_settings({"PROMPTMILL_VRAM": "4096M", "PROMPTMILL_OFFLOAD": "False"}, tmp_path)
    assert (settings.vram, settings.offload) == (4 * 2**30, False)


def test_rows_are_measured_unless_they_are_set(tmp_path: Path) -> None:
    assert read_settings({}, tmp_path).max_rows is None
    assert read_settings({"PROMPTMILL_MAX_ROWS": "8"}, tmp_path).max_rows == 8


@pytest.mark.parametrize(("name", "value"), [("VRAM", "6"), ("VRAM", "much"), ("MAX_ROWS", "0"), ("OFFLOAD", "maybe")])
def test_a_wrong_value_is_a_sentence(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"A setting is wrong: .*{name.lower()}"):
        read_settings({f"PROMPTMILL_{name}": value}, tmp_path)
