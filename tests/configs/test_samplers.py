"""Samplers by name."""

import subprocess
import sys

import pytest

from configs.errors import UnknownSampler
from configs.samplers import _fold, known_samplers, resolve

ORIGINAL_FLAGS = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "dpm_solver": "DPM++ 2M",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "k_euler_ancestral": "Euler a",
    "k_dpm_2": "DPM2",
    "k_dpm_2_ancestral": "DPM2 a",
    "k_lms": "LMS",
    "k_heun": "Heun",
    "k_dpmpp_sde": "DPM++ SDE",
}


@pytest.mark.parametrize(("flag", "name"), ORIGINAL_FLAGS.items())
def test_the_original_flags_are_known(flag: str, name: str) -> None:
    assert resolve(flag).name == name


def test_every_name_and_alias_means_one_sampler() -> None:
    words = [_fold(word) for sampler in known_samplers().values() for word in (sampler.name, *sampler.aliases)]
    assert len(words) == len(set(words)) > 60


@pytest.mark.parametrize("spelling", ["DPM++ 2M Karras", "dpm++_2m_karras", " dpm++ 2m-KARRAS "])
def test_case_blanks_dashes_and_underscores_do_not_matter(spelling: str) -> None:
    assert resolve(spelling).name == "DPM++ 2M Karras"


def test_an_unknown_name_is_answered_with_close_ones() -> None:
    with pytest.raises(
        UnknownSampler, match=r"^'DPM\+\+ 2M Karas' is not a known sampler; did you mean DPM\+\+ 2M Kar"
    ):
        resolve("DPM++ 2M Karas")


def test_a_name_like_none_is_answered_with_all() -> None:
    with pytest.raises(UnknownSampler, match=r"known are DDIM, PLMS, .*, TCD, Own$"):
        resolve("12345")


def test_the_parameters_need_no_gpu_stack() -> None:
    code = "import sys, configs.parameters; sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
