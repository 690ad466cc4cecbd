import pytest

from configs.byte_count import ByteCount
from configs.errors import ConfigError


@pytest.mark.parametrize("text", ["6G", "6GB", "6 GiB", "6g", "6144M", "6144MB", "6442450944", "6442450944B"])
def test_six_gigabytes_are_read_however_they_are_written(text: str) -> None:
    assert ByteCount.read(text) == 6 * 2**30


def test_a_fraction_is_read() -> None:
    assert ByteCount.read("5.5G") == 5632 * 2**20


@pytest.mark.parametrize("text", ["", "6", "0", "-6G", "6X", "G", "lots", "1e9", "6G6", "63M", "inf"])
def test_what_is_no_amount_or_far_too_little_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 6G"):
        ByteCount.read(text)
