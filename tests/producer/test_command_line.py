"""The command that makes an image again."""

import subprocess
from collections.abc import Callable

import pytest
from click.testing import Result

from configs.parameters import PARAMETERS
from db import queries
from db.ledger import Ledger, NewBatch
from producer.command_line import command_line
from tests.db.conftest import job


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": 'a "red" circle, it\'s $HOME `x` \\n\n--steps 3', "seed": 0, "scale": 0.0},
        {"prompt": "-n ключ \u202eevil\U0001f98a", "negative_prompt": "%s", "eta": 0.5, "weights": True},
    ],
)
def test_the_command_asks_for_the_same(
    home_ledger: Ledger, promptmill: Callable[..., Result], values: dict[str, object]
) -> None:
    home_ledger.create_batch(NewBatch(name="a", slug="a", source_sha256="0" * 64, image_format="png", total=1))
    home_ledger.add_jobs([job(1, **values)])
    asked = queries.find_job(home_ledger.engine, 1)
    printed = command_line(asked).removesuffix("| promptmill render -")
    text = subprocess.run(["/bin/sh", "-c", printed], capture_output=True, text=True, check=True).stdout
    assert promptmill("submit", "-", text=text).exit_code == 0
    again = queries.find_job(home_ledger.engine, 2)
    names = [name for name in PARAMETERS if name != "num_images"]
    assert [getattr(again, name) for name in names] == [getattr(asked, name) for name in names]
