"""The report of a batch: what it says of jobs, time and pictures, and that its page needs and trusts nothing."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from sqlalchemy import insert, update

from db.ledger import Ledger, NewBatch
from db.models import IMAGES, JOBS, Job, JobState
from producer.timeline import Making, draw
from tests.db.conftest import IMAGE, job

Call = Callable[..., Result]
HOSTILE = '</bdi><script>alert(1)</script>{{ 7 * 7 }} \x1b[31m & "quoted" \u202eright'


def test_time_without_an_image_in_the_making_is_idle() -> None:
    makings = [Making("w", "cpu", 0, 1), Making("w", "cpu", 0.5, 2), Making("w", "cpu", 4, 5)]
    timeline = draw(makings, bins=5)
    assert timeline
    assert timeline.workers[0].busy == (1, 1, 0, 0, 1)
    assert timeline.idle == pytest.approx(0.4)
    assert (timeline.rates, timeline.rate) == ((0, 1, 1, 0, 1), 3 / 5)


def test_the_next_worker_of_a_slot_goes_on_with_its_line() -> None:
    timeline = draw([Making("gpu0-3fa9c1@host", "cuda", 0, 1), Making("gpu0-00aa11@host", "cuda", 3, 4)])
    assert timeline
    assert [(worker.name, worker.images, worker.idle) for worker in timeline.workers] == [("gpu0@host", 2, 0.5)]


def test_images_in_any_order_give_one_timeline() -> None:
    makings = [Making("w", "cpu", start, start + 3) for start in (0, 7, 2, 5, 20, 1)]
    assert draw(makings) == draw(makings[::-1])
    assert draw([]) is None


def test_a_clock_that_was_set_back_ends_nothing() -> None:
    timeline = draw([Making("w", "cpu", 10, 4)])
    assert timeline
    assert timeline.seconds > 0


@pytest.fixture
def finished(home_ledger: Ledger, home: Path) -> Ledger:
    """A batch of six jobs: four made, of which one has lost its file, two failed."""
    new = NewBatch(name="a <b>.csv", slug="a-b", source_sha256="0" * 64, image_format="png", total=6)
    batch_id = home_ledger.create_batch(new)
    tags = [{"Place": place} for place in ("sea", "sea", "sea", "hill", "hill", "hill")]
    home_ledger.add_jobs([job(batch_id, prompt=HOSTILE, tags=tag) for tag in tags])
    home_ledger.open_batch(batch_id)
    folder = home / "images" / "0001-cats"
    folder.mkdir(parents=True)
    with home_ledger.engine.begin() as connection:
        for number in range(1, 5):
            Image.new("RGB", (32, 32), "teal").save(folder / f"{number}.png")
            facts = {"job_id": number, "path": f"0001-cats/{number}.png", "created_at": 100.0 + number, "seconds": 1.0}
            connection.execute(insert(IMAGES).values({**IMAGE, **facts}))
        made = update(JOBS).where(Job.id <= 4)
        connection.execute(made.values(state=JobState.SUCCEEDED, finished_at=101.0))
        failed = {"state": JobState.FAILED, "cause": "memory", "message": f"Out of memory.\n{HOSTILE}"}
        connection.execute(update(JOBS).where(Job.id > 4).values(failed))
    (folder / "4.png").unlink()
    return home_ledger


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.usefixtures("finished")
def test_a_report_tells_what_was_made_what_failed_and_what_to_run(promptmill: Call, home: Path) -> None:
    result = promptmill("report")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(home / "reports" / "0001-a-b.html")
    text = Path(result.stdout.strip()).read_text("utf-8")
    assert "4 of 6 images are made; 2 failed." in text
    assert "promptmill retry 1</code> tries 2 again" in text
    assert "2 failed: memory" in text
    assert re.findall(r"<h3><bdi>(\w+)</bdi> <small>(\d)</small>", text) == [("sea", "3"), ("hill", "1")]
    assert "job 4: no file" in text


@pytest.mark.usefixtures("finished")
def test_a_page_asks_for_nothing_and_runs_nothing(promptmill: Call) -> None:
    page = Page(promptmill("report", "-o", "-").stdout)
    assert not page.all("script")
    assert not [attributes for _, attributes in page.tags if {"href", "onload", "onclick"} & attributes.keys()]
    pictures = page.all("img")
    assert [picture["src"][:23] for picture in pictures] == ["data:image/webp;base64,"] * 3
    assert {picture["alt"] for picture in pictures} == {
        '</bdi><script>alert(1)</script>{{ 7 * 7 }} \\x1b[31m & "quoted" \\u202eright'
    }


@pytest.mark.usefixtures("finished")
def test_pictures_are_taken_evenly_and_no_more_than_asked(promptmill: Call) -> None:
    page = Page(promptmill("report", "-o", "-", "--pictures", 2).stdout)
    assert len(page.all("img")) + len([1 for tag in page.all("span") if "class" in tag]) == 2


@pytest.mark.usefixtures("finished")
def test_an_unknown_tag_is_refused_with_those_that_there_are(promptmill: Call) -> None:
    result = promptmill("report", "--tag", "Planet")
    assert (result.exit_code, result.stderr) == (2, "Error: Batch 1 has no tag Planet; it has Place.\n")


@pytest.mark.usefixtures("finished")
def test_a_place_that_cannot_be_written_is_told(promptmill: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = promptmill("report", "-o", tmp_path / "file" / "report.html")
    assert result.exit_code == 1
    assert "name another file with -o" in result.stderr


def test_a_batch_with_nothing_made_has_a_report_too(promptmill: Call, home_ledger: Ledger) -> None:
    new = NewBatch(name="x", slug="x", source_sha256="0" * 64, image_format="png", total=1)
    home_ledger.add_jobs([job(home_ledger.create_batch(new))])
    home_ledger.open_batch(1)
    text = promptmill("report", "-o", "-").stdout
    assert "0 of 1 images are made; 1 are left." in text
    assert "promptmill resume 1" in text
