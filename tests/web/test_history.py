"""The history, images and what is chosen, asked in this process."""

import pytest
from fastapi.testclient import TestClient

PAGES = [
    "/history", "/history?q=state:failed", "/image/1", "/image/9", "/image/13", "/selection/rerun?job=1&job=2",
    "/batch/2/report", "/selection/csv?job=1", "/selection/zip?everything=1", "/selection/sheet?job=1",
]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_there(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200
