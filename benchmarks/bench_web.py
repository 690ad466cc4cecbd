"""Milliseconds from a click to a loaded page of the history, in headless Chromium, against the same page as a file.

python benchmarks/bench_web.py --jobs 100000
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from sqlalchemy import insert

from db.job_text import catch_up
from db.ledger import Ledger, NewBatch
from db.migrate import open_ledger
from db.models import IMAGES, JOBS

#: Different pictures; jobs share their files.
PICTURES = 512
SLICE, SIDE, NOW = 10_000, 512, 1.8e9
WORDS = ("castle", "fox", "river", "forest", "robot", "harbour", "mountain", "lantern", "queen", "ship", "tower")
#: By name: a path of the server.
PAGES = {
    "first page": "/history",
    "a word": "/history?q=castle",
    "words and fields": "/history?q=castle+-fox+steps:20..30+scale%3E7",
    "a tag": "/history?q=tag.category:Animals",
    "by seed": "/history?sort=seed",
    "half-way down": "/history?after=id:{half}:{half}",
    "an image": "/image/{half}",
}


def paint(folder: Path) -> list[dict[str, Any]]:
    """Pictures as busy as photographs, and what the ledger says of them."""
    folder.mkdir(parents=True)
    made = []
    for number in range(PICTURES):
        clouds = [Image.effect_noise((40, 40), 90).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for _ in range(3)]
        picture = Image.merge("RGB", clouds)
        path = folder / f"{number}.png"
        picture.save(path, compress_level=1)
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        made.append({"path": f"{folder.name}/{path.name}", "sha256": digest, "bytes": path.stat().st_size})
    return made


def job(draw: random.Random, number: int) -> dict[str, Any]:
    words = ", ".join(draw.sample(WORDS, 4))
    return {
        "batch_id": 1, "chunk": number // 16, "line": number, "image_index": 0, "priority": 5,
        "prompt": f"a painting of a {words}, oil on canvas, golden hour, no. {number}", "model": "demo",
        "negative_prompt": "blurry, low quality", "sampler": draw.choice(("DDIM", "Euler a", "DPM++ 2M Karras")),
        "state": "failed" if number % 50 == 0 else "succeeded", "steps": draw.choice((20, 25, 30, 50)),
        "scale": draw.choice((5.0, 7.0, 7.5, 9.0)), "width": SIDE, "height": SIDE, "seed": draw.randrange(2**32),
        "strength": 0.75, "eta": 0.0, "tags": {"category": draw.choice(("Animals", "Places"))}, "attempts": 1,
        "finished_at": NOW + number, "worker": f"w{number % 4}", "cause": None if number % 50 else "memory",
    }  # fmt: skip


def image(number: int, pictures: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **pictures[number % PICTURES], "job_id": number, "width": SIDE, "height": SIDE, "seconds": 1.0, "worker": "w",
        "device": "gpu", "dtype": "float16", "batch_rows": 16, "checkpoint_hash": "0" * 64, "versions": {},
        "created_at": NOW + number,
    }  # fmt: skip


def build(home: Path, jobs: int) -> None:
    pictures, draw = paint(home / "images" / "0001-bench"), random.Random(7)
    ledger: Ledger = open_ledger(f"sqlite:///{home}/ledger.sqlite3")
    new = NewBatch(name="bench.csv", slug="bench", source_sha256="0" * 64, image_format="png", total=jobs)
    ledger.create_batch(new)
    for start in range(1, jobs + 1, SLICE):
        numbers = range(start, min(start + SLICE, jobs + 1))
        with ledger.engine.begin() as connection:
            connection.execute(insert(JOBS), [job(draw, number) for number in numbers])
            connection.execute(insert(IMAGES), [image(number, pictures) for number in numbers if number % 50])
    ledger.open_batch(1)
    catch_up(ledger.engine)
    ledger.engine.dispose()


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """`promptmill web` on a free port; its URL."""
    command = [sys.executable, "-m", "producer", "web", "--port", "0"]
    environ = {**os.environ, "PROMPTMILL_HOME": str(home)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            yield re.search(r"http://[\d.:]+\d", server.stderr.readline())[0]  # type: ignore[index]
        finally:
            server.terminate()


class Files(ThreadingHTTPServer):
    """Serves what is in a folder, and does not mind when a browser goes away."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None: ...


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    with Files(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def copy_page(url: str, folder: Path) -> None:
    """The first page of the history as files: no ledger, no templates, no rules."""
    page = urllib.request.urlopen(f"{url}/history").read().decode()  # noqa: S310
    for path in re.findall(r'(?:src|href)="(/(?:thumbnail|static)/[^"]+)"', page):
        target = folder / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(urllib.request.urlopen(url + path).read())  # noqa: S310
    (folder / "index.html").write_text(page, "utf-8")


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


def load(browser: webdriver.Chrome, url: str) -> float:
    """Milliseconds from the beginning of the navigation to the end of the load event."""
    browser.get(url)
    entry = json.loads(browser.execute_script("return JSON.stringify(performance.getEntriesByType('navigation')[0])"))
    return float(entry["loadEventEnd"])


def timed(browser: webdriver.Chrome, url: str, tries: int, *, cached: bool) -> tuple[float, float]:
    """Median and best; with the browser's cache, or with an empty one."""
    browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": not cached})
    load(browser, url)
    times = [load(browser, url) for _ in range(tries)]
    return statistics.median(times), min(times)


def measure(browser: webdriver.Chrome, url: str, files: str, jobs: int, tries: int) -> None:
    browser.execute_cdp_cmd("Network.enable", {})
    print(f"{'ms, median and best':28} without the browser's cache, with it")
    pages = {"the first page as a file": files}
    pages |= {name: url + path.format(half=jobs // 2 + 1) for name, path in PAGES.items()}
    new: list[float] = []
    for name, page in pages.items():
        (middle, best), known = (timed(browser, page, tries, cached=cached) for cached in (False, True))
        new.append(middle)
        print(f"{name:28} {middle:7.0f} {best:7.0f} {known[0]:13.0f} {known[1]:7.0f}")
    print(f"ratio {new[1] / new[0]:.2f}: the first page against the same as a file")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=100_000)
    options.add_argument("--tries", type=int, default=9)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, copy = Path(folder, "home"), Path(folder, "copy")
        build(home, given.jobs)
        with serving(home) as url, chromium() as browser:
            print(f"{'60 thumbnails made at once':28} {load(browser, url + '/history'):7.0f} ms")
            copy_page(url, copy)
            with serving_files(copy) as files:
                measure(browser, url, files, given.jobs, given.tries)


if __name__ == "__main__":
    main()
