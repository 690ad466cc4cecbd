"""Making pictures in a browser, with one real worker for all: what a user does, and what appears."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from db import queries
from db.glimpses import Glimpse
from db.models import JobState
from producer.embedded import EmbeddedQueue
from producer.glimpses import look
from tests.preloaded import Copy
from tests.web.conftest import Site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site) -> Iterator[None]:
    """One process, on the queue that the site finds in its home."""
    site.ledger.cancel_batch(3)
    home = site.settings.home
    with EmbeddedQueue(home) as queue:
        place = {"PROMPTMILL_HOME": str(home), "PROMPTMILL_BROKER_URL": queue.url}
        quick = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = Copy([sys.executable, "-m", "worker", "--name", "w"], env={**os.environ, **place, **quick})
        yield
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uploads") / "square.png"
    Image.new("RGB", (96, 96), "tomato").save(path)
    return path


def at(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def fill(browser: Chrome, **values: str) -> None:
    for name, value in values.items():
        field = at(browser, f"[name={name}]")
        browser.execute_script("arguments[0].closest('details')?.setAttribute('open', '')", field)
        field.clear()
        field.send_keys(value)


def press(browser: Chrome, selector: str) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", at(browser, selector))
    at(browser, selector).send_keys(Keys.ENTER)


def until(browser: Chrome, holds: Callable[[Chrome], object], seconds: float = 60) -> None:
    WebDriverWait(browser, seconds, 0.2, [StaleElementReferenceException, NoSuchElementException]).until(holds)


def made(browser: Chrome, count: int = 1) -> None:
    """Wait for pictures, and see that they have loaded."""
    loaded = "return [...document.querySelectorAll('.frame > img')].filter((one) => one.naturalWidth).length"
    until(browser, lambda b: b.execute_script(loaded) == count)


def test_a_prompt_becomes_pictures_without_a_reload(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/make")
    fill(browser, prompt="a red circle on a blue background", steps="4", num_images="2", seed="7")
    press(browser, "#submit")
    made(browser, 2)
    assert "/image/" in str(at(browser, ".frame > img").get_attribute("src"))
    assert at(browser, ".frame > img").get_attribute("alt") == "a red circle on a blue background"


def test_what_is_wrong_is_said_at_its_field(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/make")
    fill(browser, prompt="a circle", width="65")
    press(browser, "#submit")
    until(browser, lambda b: "a multiple of 8" in at(b, "#width-wrong").text)
    assert at(browser, "#prompt").get_attribute("value") == "a circle"


def test_an_upload_is_cropped_by_dragging_and_painted_over(site: Site, browser: Chrome, square: Path) -> None:
    browser.get(f"{site.url}/make/img2img")
    at(browser, "#init_file").send_keys(str(square))
    until(browser, lambda b: "96 × 96" in at(b, "#init-size").text)
    picture = at(browser, "#init-picture")
    half = picture.size["width"] // 2
    ActionChains(browser).move_to_element_with_offset(picture, -half + 1, -half + 1).click_and_hold().move_by_offset(
        half + half // 2, half + half // 2
    ).release().perform()
    assert 60 <= int(str(at(browser, "#crop_width").get_attribute("value"))) <= 80
    fill(browser, prompt="a blue circle", steps="4", crop_left="0", crop_top="0", crop_width="64", crop_height="64")
    press(browser, "#submit")
    made(browser)
    job = queries.find_job(site.ledger.engine, int(str(at(browser, ".made li").get_attribute("id")).split("-")[1]))
    assert (job.width, job.height, job.state) == (64, 64, JobState.SUCCEEDED)


def test_a_painted_mask_is_filled(site: Site, browser: Chrome, square: Path) -> None:
    browser.get(f"{site.url}/make/inpaint")
    at(browser, "#init_file").send_keys(str(square))
    until(browser, lambda b: at(b, "#mask-canvas").is_displayed())
    canvas = at(browser, "#mask-canvas")
    ActionChains(browser).move_to_element(canvas).click_and_hold().move_by_offset(20, 0).release().perform()
    fill(browser, prompt="a blue circle", steps="4")
    press(browser, "#submit")
    made(browser)
    job = queries.find_job(site.ledger.engine, int(str(at(browser, ".made li").get_attribute("id")).split("-")[1]))
    with Image.open(job.mask_image) as mask:
        assert (mask.getpixel((48, 48)), mask.getpixel((2, 2))) == (255, 0)


def test_a_mask_can_be_painted_by_keys_inverted_and_undone(site: Site, browser: Chrome, square: Path) -> None:
    browser.get(f"{site.url}/make/inpaint")
    at(browser, "#init_file").send_keys(str(square))
    until(browser, lambda b: at(b, "#mask-canvas").is_displayed())
    painted = "return document.querySelector('canvas').getContext('2d').getImageData(48, 48, 1, 1).data[3]"
    at(browser, "#mask-canvas").send_keys(" ")
    assert browser.execute_script(painted) == 255
    press(browser, "#invert")
    assert browser.execute_script(painted) == 0
    press(browser, "#undo")
    assert browser.execute_script(painted) == 255


def test_steps_and_a_preview_are_seen_while_a_picture_is_made(site: Site, browser: Chrome) -> None:
    browser.get(f"{site.url}/make")
    fill(browser, prompt="a green square", steps="600")
    press(browser, "#submit")
    seen: list[Glimpse] = []

    def glimpse(_: Chrome) -> bool:
        job = queries.find_job(site.ledger.engine, int(str(at(browser, ".made li").get_attribute("id")).split("-")[1]))
        seen.extend(look(site.settings, [job.id], previews=True).values())
        return any(one.preview for one in seen) and " of 600" in at(browser, ".standing").text

    until(browser, glimpse)
    until(browser, lambda b: at(b, ".preview").is_displayed())
    press(browser, "[href='/queue']")
    site.ledger.cancel_batch(queries.batches(site.ledger.engine, 1)[0].id)


def test_a_file_is_corrected_previewed_and_watched_until_it_is_done(
    site: Site, browser: Chrome, tmp_path: Path
) -> None:
    file = tmp_path / "night.csv"
    file.write_text("prompt,steps\na red circle,4\na blue circle,lots\n")
    browser.get(f"{site.url}/batch")
    at(browser, "#file").send_keys(str(file))
    press(browser, "#look")
    until(browser, lambda b: "'lots' is not a whole number" in at(b, "#problems").text)
    file.write_text("prompt,steps\na red circle,4\na blue circle,4\n")
    at(browser, "#file").send_keys(str(file))
    press(browser, "#look")
    until(browser, lambda b: "a blue circle" in at(b, "#rows").text)
    press(browser, "#submit")
    until(browser, lambda b: "/queue" in b.current_url)
    batch = queries.find_batch(site.ledger.engine, "night.csv")
    until(browser, lambda b: at(b, f"#batch-{batch.id} [data-standing]").get_attribute("data-standing") == "done")


@pytest.mark.parametrize("address", ["/make", "/make/img2img", "/make/inpaint", "/batch"])
def test_a_page_is_no_wider_than_a_phone_and_names_its_fields(site: Site, browser: Chrome, address: str) -> None:
    browser.set_window_size(500, 844)
    browser.get(f"{site.url}{address}")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    unnamed = "return [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
    unnamed += ".filter((field) => !field.labels.length).length"
    assert browser.execute_script(unnamed) == 0
    browser.set_window_size(1200, 900)
