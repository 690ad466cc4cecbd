"""The sampler of rows whose checkpoint takes none but its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.settings import DEFAULTS, read_toml
from producer.errors import InvalidPromptFile
from producer.prompts import PromptFile

JOB = read_toml(DEFAULTS)["job"]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[tuple[str, str]]]:
    """Model and sampler of the rows of a file of this content, which may name the folder `flux`."""
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))

    def read(content: str, **defaults: object) -> list[tuple[str, str]]:
        (tmp_path / "a.csv").write_text(content.replace("flux", str(tmp_path / "flux")))
        rows = PromptFile(tmp_path / "a.csv", defaults={**JOB, **defaults}).rows()
        return [(Path(row.parameters.model).name, row.parameters.sampler) for row in rows]

    return read


def test_a_default_is_for_checkpoints_that_take_samplers(read: Callable[..., list[tuple[str, str]]]) -> None:
    rows = read("prompt,model\ncat,flux\ncat,demo\n", sampler="ddim")
    assert rows == [("flux", "Own"), ("demo", "DDIM")]


def test_a_sampler_named_in_a_row_is_refused(read: Callable[..., list[tuple[str, str]]]) -> None:
    assert read("prompt,model,sampler\ncat,flux,own\n") == [("flux", "Own")]
    with pytest.raises(InvalidPromptFile) as caught:
        read("prompt,model,sampler\ncat,flux,Euler a\n")
    assert [problem.column for problem in caught.value.problems] == ["sampler"]
