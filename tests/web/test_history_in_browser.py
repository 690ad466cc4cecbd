"""What a user does with the history, in a real browser."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

from tests.web.conftest import Site

pytestmark = pytest.mark.browser


@contextmanager
def going(browser: Chrome) -> Iterator[None]:
    """What the block does leads to another page, which is there when it ends."""
    before = browser.find_element(By.TAG_NAME, "html")
    yield
    wait = WebDriverWait(browser, 10)
    wait.until(staleness_of(before))
    wait.until(lambda _: browser.execute_script("return document.readyState") == "complete")


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def one(browser: Chrome, css: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, css)


def ticked(browser: Chrome) -> list[str]:
    return [box.get_attribute("value") for box in browser.find_elements(By.CSS_SELECTOR, "[name=job]:checked")]


def test_a_search_shows_what_it_finds_and_points_at_what_is_wrong(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/history")
    with going(browser):
        press(browser, "/", "tomato seed:1", Keys.ENTER)
    alts = [image.get_attribute("alt") for image in browser.find_elements(By.CSS_SELECTOR, ".tile img")]
    assert alts == ["a tomato circle on a teal background"] * 2
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    with going(browser):
        press(browser, "/", Keys.END, " stepz:3", Keys.ENTER)
    assert one(browser, "mark").text == "s"
    assert browser.execute_script("return document.activeElement.selectionStart") == len("tomato seed:1 ")


def test_the_form_writes_the_query(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/history?q=circle")
    one(browser, "[name=seed]").send_keys("2..3")
    with going(browser):
        one(browser, "[name=batch]").send_keys("circles.csv", Keys.ENTER)
    assert one(browser, "#q").get_attribute("value") == "circle seed:2..3 batch:circles.csv"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".tile")) == 2


def test_from_picture_to_picture_by_the_keys(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/history?q=batch:1")
    with going(browser):
        one(browser, ".tile a").send_keys(Keys.ARROW_RIGHT)
        press(browser, Keys.ENTER)
    assert browser.current_url.endswith("/image/7")
    with going(browser):
        press(browser, Keys.ARROW_LEFT)
    assert browser.current_url.endswith("/image/6")
    assert one(browser, "#picture").get_attribute("alt") == "a sienna circle on a teal background"
    assert browser.execute_script("return document.getElementById('picture').naturalWidth") == 64


def test_an_image_is_made_again(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/image/2")
    with going(browser):
        one(browser, ".actions button").click()
    assert one(browser, ".badge").text == "queued"
    assert "appears here when it is made" in one(browser, ".stage").text


def test_a_picture_appears_when_it_is_made(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/image/15")
    assert one(browser, ".badge").text == "queued"
    with going(browser):
        site.ledger.start_jobs([15], "w", 15)
    assert one(browser, ".badge").text == "running"


def test_a_list_keeps_up_with_what_is_made(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/history?q=id:16")
    one(browser, ".queued")
    site.ledger.start_jobs([16], "w", 15)
    WebDriverWait(browser, 10).until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".missing.running"))


def test_ranges_and_all_of_a_page_are_ticked(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/history?q=batch:1")
    boxes = browser.find_elements(By.CSS_SELECTOR, "[name=job]")
    boxes[1].click()
    ActionChains(browser).key_down(Keys.SHIFT).click(boxes[4]).key_up(Keys.SHIFT).perform()
    assert ticked(browser) == ["7", "6", "5", "4"]
    assert one(browser, "output").text == "4 chosen"
    one(browser, ".tile a").send_keys(Keys.SPACE)
    assert len(ticked(browser)) == 5
    one(browser, "#whole").click()
    assert len(ticked(browser)) == 8


def test_what_is_chosen_is_downloaded(site: Site, browser: Chrome, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get(f"{site.url}/history?q=batch:1")
    for box in browser.find_elements(By.CSS_SELECTOR, "[name=job]")[:2]:
        box.click()
    zipped, drawn = tmp_path / "promptmill-images.zip", tmp_path / "promptmill-sheet.png"
    for form, file in (("zip", zipped), ("sheet", drawn)):
        one(browser, f"button[formaction$={form}]").click()
        WebDriverWait(browser, 10).until(lambda _, file=file: file.exists())
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == ["00000007-6.png", "00000008-7.png", "metadata.jsonl"]
        Image.open(io.BytesIO(archive.read("00000007-6.png"))).verify()
    Image.open(drawn).verify()


def test_a_report_is_read_and_downloaded(site: Site, browser: Chrome, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get(f"{site.url}/batch/1/report")
    browser.find_element(By.LINK_TEXT, "Download this report").click()
    report = tmp_path / "promptmill-batch-1.html"
    WebDriverWait(browser, 10).until(lambda _: report.exists())
    assert "All 8 images are made" in report.read_text("utf-8")


#: Controls without a name, pictures without words, and what is wider than the screen.
FAULTS = """
const named = (e) => e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim() || e.type === "hidden";
return [
  ...[...document.querySelectorAll("input, select, textarea, button, summary")].filter((e) => !named(e)),
  ...[...document.images].filter((e) => !e.hasAttribute("alt")),
  ...[...document.querySelectorAll("a")].filter((e) => !e.textContent.trim() && !e.querySelector("img[alt]")),
  ...(document.documentElement.scrollWidth > innerWidth ? [document.documentElement] : []),
].map((e) => e.outerHTML.slice(0, 200));
"""
PAGES = ("/history", "/history?q=stepz:1", "/image/1", "/image/12", "/selection/rerun?job=1&job=2", "/batch/2/report")


@pytest.mark.parametrize("width", [390, 1200])
def test_everything_has_a_name_and_fits_the_screen(site: Site, browser: Chrome, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for path in PAGES:
        browser.get(site.url + path)
        assert browser.execute_script(FAULTS) == [], path


def test_the_pages_work_without_scripts(site: Site) -> None:
    page = httpx.get(f"{site.url}/history?q=batch:1").text
    assert page.count('<button formaction="/selection/') == 4
    assert "disabled" not in page
