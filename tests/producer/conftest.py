"""A picture to begin from."""

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """500x333 pixels."""
    path = tmp_path / "cat.png"
    Image.new("RGB", (500, 333), "red").save(path)
    return path
