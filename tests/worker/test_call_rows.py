"""The record says how many rows each UNet call of an image had, and what else its last bits may hang on."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from worker.call_rows import read_rows, write_rows
from worker.checkpoints import Checkpoint
from worker.renderer import Renderer
from worker.sample import Sample


@settings(max_examples=30)
@given(st.lists(st.integers(1, 128), max_size=40))
def test_rows_are_read_as_they_were_written(calls: list[int]) -> None:
    assert read_rows(write_rows(calls)) == calls


@pytest.mark.parametrize("text", ["x", "2*", "*4*4", "-1*2", "0", "9999999999*2", "8000*2 8000*2", "1.5"])
def test_what_a_stranger_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_rows(text)


def test_a_sample_that_is_left_alone_has_smaller_calls(
    checkpoint: Checkpoint, make_sample: Callable[..., Sample]
) -> None:
    renderer = Renderer(checkpoint)
    flights = renderer.fly([make_sample(steps=3), make_sample(steps=1)])
    renderer.decode(flights)
    assert [flight.variant["rows"] for flight in flights] == ["4 2*2", "4"]


def test_the_record_tells_init_images_apart(
    checkpoint: Checkpoint, make_sample: Callable[..., Sample], tmp_path: Path
) -> None:
    path = tmp_path / "cat.png"
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(path)
        flight = Renderer(checkpoint).start(make_sample(init_image=path, sampler="DDIM"))
        assert flight.variant["init_image"] == sha256(path.read_bytes()).hexdigest()


def test_the_record_of_a_processor_says_which_and_how_many_threads(checkpoint: Checkpoint) -> None:
    assert set(checkpoint.arithmetic) == {"threads", "instructions"}
