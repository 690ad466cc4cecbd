"""A served application with something to see, the same in process, and a browser."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from sqlalchemy import insert, update

from configs.settings import Settings, read_settings
from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from db.models import IMAGES, JOBS, Job, JobState
from producer.web.access import Access
from producer.web.app import create_app
from tests.db.conftest import IMAGE, job

COLOURS = ("teal", "tomato", "goldenrod", "slateblue", "darkolivegreen", "sienna")


@dataclass(frozen=True)
class Site:
    """A served application: where it is, and what it serves."""

    url: str
    settings: Settings
    ledger: Ledger
    access: Access
    app: FastAPI


def add_batch(ledger: Ledger, settings: Settings, name: str, *, made: int, failed: int = 0, queued: int = 0) -> int:
    """Record a batch whose first jobs have tiny pictures below the image root; returns its id."""
    total = made + failed + queued
    slug = name.partition(".")[0]
    new = NewBatch(name=name, slug=slug, source_sha256="0" * 64, image_format="png", total=total)
    batch_id = ledger.create_batch(new)
    prompts = [f"a {COLOURS[i % 6]} circle on a {COLOURS[i // 6 % 6]} background" for i in range(total)]
    tags = [{"Category": "warm" if i % 2 else "cool"} for i in range(total)]
    ledger.add_jobs(
        [job(batch_id, prompt=p, seed=i, tags=t) for i, (p, t) in enumerate(zip(prompts, tags, strict=True))]
    )
    ledger.open_batch(batch_id)
    with ledger.engine.begin() as connection:
        ids = [row[0] for row in connection.execute(JOBS.select().where(Job.batch_id == batch_id).order_by(Job.id))]
        _paint(connection, settings.images_root, f"{batch_id:04d}-{slug}", ids[:made])
        lost = {"state": JobState.FAILED, "cause": "memory", "message": "Out of memory.", "finished_at": time.time()}
        connection.execute(update(JOBS).where(Job.id.in_(ids[made : made + failed])).values(lost))
    return batch_id


def _paint(connection: Any, root: Path, folder: str, ids: list[int]) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for index, job_id in enumerate(ids):
        path = f"{folder}/{job_id}.png"
        Image.new("RGB", (64, 64), COLOURS[index % 6]).save(root / path)
        facts = {"job_id": job_id, "path": path, "created_at": time.time() + index / 100, "seconds": 1.0}
        facts["sha256"] = f"{job_id:064x}"
        connection.execute(insert(IMAGES).values({**IMAGE, **facts, "bytes": (root / path).stat().st_size}))
        done = {"state": JobState.SUCCEEDED, "started_at": time.time() - 1, "finished_at": time.time() + index / 100}
        connection.execute(update(JOBS).where(Job.id == job_id).values(done))


@pytest.fixture(scope="module")
def web_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web") / "home"


@pytest.fixture(scope="module")
def web_settings(web_home: Path) -> Settings:
    return read_settings({"PROMPTMILL_HOME": str(web_home)}, web_home)


@pytest.fixture(scope="module")
def web_ledger(web_settings: Settings) -> Iterator[Ledger]:
    """Three batches: one done, one with failures, one that waits."""
    ledger = open_ledger(web_settings.ledger_url)
    add_batch(ledger, web_settings, "circles.csv", made=8)
    add_batch(ledger, web_settings, "mixed.csv", made=3, failed=2)
    add_batch(ledger, web_settings, "waiting.csv", made=1, queued=5)
    yield ledger
    ledger.engine.dispose()


@pytest.fixture(scope="module")
def app(web_settings: Settings, web_ledger: Ledger) -> FastAPI:
    """The application as it is on loopback where no password is set."""
    access = Access(web_settings.home, hosts=("localhost", "127.0.0.1", "::1", "testserver"))
    return create_app(web_settings, web_ledger, access)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Asks the application in this process, as a program on this machine does."""
    with TestClient(app, follow_redirects=False) as client:
        yield client


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """An application on a free port of loopback; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    _wait_for(url)
    yield url
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def site(app: FastAPI, web_settings: Settings, web_ledger: Ledger) -> Iterator[Site]:
    """The application on a free port of loopback."""
    with served(app) as url:
        yield Site(url, web_settings, web_ledger, app.state.access, app)


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            httpx.get(f"{url}/static/promptmill.svg")
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError(url)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """A headless Chromium of 1200 by 900."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver) and "CI" not in os.environ:
        pytest.skip("needs chromium and chromedriver on the PATH")
    assert program, "needs chromium"
    assert driver, "needs chromedriver"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
    ):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, Service(driver))
    browser.set_page_load_timeout(30)
    yield browser
    browser.quit()
