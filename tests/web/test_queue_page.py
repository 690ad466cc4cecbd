"""The queue in a browser."""

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.web.conftest import Site


@pytest.mark.browser
def test_the_queue_lists_every_batch(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/queue")
    text = browser.find_element(By.TAG_NAME, "main").text
    assert all(name in text for name in ("circles.csv", "mixed.csv", "waiting.csv"))
