"""The queue in a browser: what a user sees and does there."""

from collections.abc import Callable, Iterator

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from db import queries
from db.models import JobState
from producer.web import credentials
from producer.web.access import Access
from producer.web.app import create_app
from tests.web.conftest import Site, served

pytestmark = pytest.mark.browser


@pytest.fixture
def queue(site: Site, browser: Chrome) -> Iterator[Chrome]:
    browser.get(f"{site.url}/queue")
    yield browser
    browser.set_window_size(1200, 900)


def until(browser: Chrome, holds: Callable[[Chrome], object]) -> None:
    # The page may have exchanged what was just found.
    WebDriverWait(browser, 15, 0.2, [StaleElementReferenceException, NoSuchElementException]).until(holds)


def standing(browser: Chrome, batch: int) -> str:
    return browser.find_element(By.CSS_SELECTOR, f"#batch-{batch} [data-standing]").get_attribute("data-standing") or ""


def press(browser: Chrome, verb: str, batch: int) -> None:
    browser.find_element(By.ID, f"{verb}-{batch}").send_keys(Keys.ENTER)


def test_the_queue_lists_every_batch(queue: Chrome) -> None:
    text = queue.find_element(By.TAG_NAME, "main").text
    assert all(name in text for name in ("circles.csv", "mixed.csv", "waiting.csv"))
    assert "8 of 8 made" in text
    assert "2 failed" in text


def test_a_batch_is_paused_and_resumed_by_the_keyboard(site: Site, queue: Chrome) -> None:
    assert standing(queue, 3) == "waiting"
    press(queue, "pause", 3)
    until(queue, lambda found: standing(found, 3) == "paused")
    assert queries.is_paused(site.ledger.engine, 3)
    press(queue, "resume", 3)
    until(queue, lambda found: standing(found, 3) == "waiting")
    assert not queries.is_paused(site.ledger.engine, 3)


def test_what_failed_is_tried_again(site: Site, queue: Chrome) -> None:
    press(queue, "retry", 2)
    until(queue, lambda found: standing(found, 2) == "waiting")
    assert queries.counts(site.ledger.engine, 2)[JobState.QUEUED] == 2


def test_the_page_follows_without_being_loaded_again(site: Site, queue: Chrome) -> None:
    site.ledger.report_worker("gpu0-1@host", host="host", pid=1, state="rendering", device="cuda:0", rate=2.5)
    until(queue, lambda found: "gpu0-1@host" in found.find_element(By.ID, "workers").text)
    assert "2.5 images/s" in queue.find_element(By.ID, "standing").text


def test_everything_is_reached_by_tab_and_seen(queue: Chrome) -> None:
    queue.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    seen = []
    for _ in range(40):
        focused = queue.switch_to.active_element
        if focused.tag_name == "body":
            break
        outline = focused.value_of_css_property("outline-style")
        seen.append(focused.get_attribute("id") or focused.text)
        assert outline != "none", seen[-1]
        focused.send_keys(Keys.TAB)
    assert {"Skip to the content", "History", "pause-3", "cancel-3"} <= set(seen)


def test_who_is_outside_logs_in_and_comes_to_the_page_he_asked_for(site: Site, browser: Chrome) -> None:
    home = site.settings.home / "guarded"
    credentials.set_password(home, "promptmill", "correct horse battery")
    access = Access(home, open_to_all=False)
    with served(create_app(site.settings, site.ledger, access)) as url:
        browser.get(f"{url}/queue")
        browser.find_element(By.NAME, "user").send_keys("promptmill")
        browser.find_element(By.NAME, "password").send_keys("correct horse battery", Keys.ENTER)
        until(browser, lambda found: found.current_url == f"{url}/queue")
        assert "circles.csv" in browser.find_element(By.TAG_NAME, "main").text
        browser.find_element(By.CSS_SELECTOR, ".log-out button").click()
        until(browser, lambda found: found.current_url == f"{url}/log-in")
        browser.get(f"{url}/queue")
        assert "/log-in" in browser.current_url


def test_a_link_of_another_site_leads_to_the_page_and_ends_no_session(site: Site, browser: Chrome) -> None:
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    browser.get(f"{site.url}/queue")
    before = browser.get_cookies()
    browser.get(f"{elsewhere}/queue")
    browser.execute_script(
        "const link = document.createElement('a'); link.href = arguments[0]; document.body.append(link);link.click();",
        f"{site.url}/queue?before=100",
    )
    until(
        browser,
        lambda found: found.find_elements(By.ID, "batch-3") and found.current_url == f"{site.url}/queue?before=100",
    )
    assert [cookie["value"] for cookie in browser.get_cookies()] == [cookie["value"] for cookie in before]


@pytest.mark.parametrize("path", ["/queue", "/log-in", "/nothing"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(site: Site, queue: Chrome, scheme: str, path: str) -> None:
    queue.get(site.url + path)
    queue.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    faint = queue.execute_script(CONTRASTS)
    assert faint == []


def test_a_phone_needs_no_scrolling_aside(queue: Chrome) -> None:
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    queue.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    wide = queue.execute_script("return document.documentElement.scrollWidth")
    queue.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 390


#: The visible texts whose contrast is below 4.5, by the formula of WCAG 2.
CONTRASTS = """
const number = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (at) => {
  for (; at; at = at.parentElement) {
    const found = number(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const faint = [];
for (const at of document.querySelectorAll("body *")) {
  const own = [...at.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !at.checkVisibility()) continue;
  const [high, low] = [light(number(getComputedStyle(at).color)), light(ground(at))].sort((a, b) => b - a);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < 4.5) faint.push(`${at.tagName} ${at.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
}
return faint;
"""
