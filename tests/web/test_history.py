"""The history, images and what is chosen of them, asked in this process."""

import csv
import io
import re
import zipfile
from itertools import chain

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import update

from configs.settings import Settings
from db import queries
from db.ledger import Ledger
from db.models import IMAGES, JOBS
from db.models import Image as ImageColumns
from producer.web import listing
from tests.web.conftest import add_batch

HOSTILE = "<script>alert(1)</script> \" onerror='x' \u202eevil & {{ 7*7 }}"


@pytest.fixture(scope="module")
def hostile(web_ledger: Ledger, web_settings: Settings) -> int:
    """The id of a job whose every text is an attack."""
    batch_id = add_batch(web_ledger, web_settings, "hostile.csv", made=1)
    with web_ledger.engine.begin() as connection:
        values = {"prompt": HOSTILE, "negative_prompt": HOSTILE, "tags": {"<b>'": HOSTILE}, "model": HOSTILE}
        connection.execute(update(JOBS).where(JOBS.c.batch_id == batch_id).values(values))
        return int(connection.execute(JOBS.select().where(JOBS.c.batch_id == batch_id)).one().id)


def ids(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'name="job" value="(\d+)"', page)]


def link(page: str, rel: str) -> str | None:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return found and found[1].replace("&amp;", "&")


def token(client: TestClient) -> str:
    return re.search(r'name="csrf_token" value="(\w+)"', client.get("/image/1").text)[1]  # type: ignore[index]


def test_hostile_texts_are_texts(client: TestClient, hostile: int) -> None:
    for path in ("/history", f"/image/{hostile}", f"/selection/rerun?job={hostile}", "/history?q=<script>:1"):
        text = client.get(path).text
        assert not {"<script>", "<b>"} & set(re.findall(r"<\w+>", text))
        assert "\u202e" not in re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)
        assert "onerror='" not in text
    assert "&lt;script&gt;" in text


def test_a_link_to_a_hostile_value_finds_it(client: TestClient, hostile: int) -> None:
    page = client.get(f"/image/{hostile}").text
    links = [found.replace("&amp;", "&") for found in re.findall(r'href="(/history\?q=[^"]+)"', page)]
    assert len(links) > 8
    assert [found for found in links if hostile not in ids(client.get(found).text)] == []


def test_a_bad_query_is_pointed_at_where_it_is_bad(client: TestClient) -> None:
    answer = client.get("/history?q=cat+stepz:3")
    assert answer.status_code == 422
    assert "did you mean steps" in answer.text
    assert "cat <mark>s</mark>tepz:3" in answer.text


def test_the_form_leads_to_its_query(client: TestClient) -> None:
    answer = client.get("/history/form?text=circle&steps=20..30&sampler=Euler+a&sort=seed&ascending=1")
    assert answer.status_code == 303
    expected = "/history?q=circle+sampler%3A%22Euler+a%22+steps%3A20..30&sort=seed&ascending=1"
    assert answer.headers["location"] == expected


@pytest.mark.parametrize("order", ["", "&sort=took", "&sort=seed&ascending=1"])
def test_pages_lead_there_and_back(client: TestClient, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    everything = ids(client.get(f"/history?q=batch:1..3{order}").text)
    monkeypatch.setattr(listing, "PAGE_SIZE", 7)
    page, pages = client.get(f"/history?q=batch:1..3{order}").text, []
    while pages.append(ids(page)) or (older := link(page, "next")):
        page = client.get(older).text
    assert list(chain(*pages)) == everything
    back = [pages[-1]]
    while newer := link(page, "prev"):
        back.append(ids(page := client.get(newer).text))
    assert back[::-1] == pages


def test_a_cursor_of_nowhere_is_refused(client: TestClient) -> None:
    assert client.get("/history?after=seed:1").status_code == 422


def test_a_thumbnail_is_kept_for_good(client: TestClient) -> None:
    source = re.search(r'src="(/thumbnail/[^"]+)"', client.get("/history?q=batch:1").text)
    assert source
    answer = client.get(source[1])
    assert (answer.headers["content-type"], Image.open(io.BytesIO(answer.content)).format) == ("image/webp", "WEBP")
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    ["/thumbnail/1/" + "0" * 64 + "-9x9.webp", "/thumbnail/1/..%2f..%2fledger.webp", "/thumbnail/1/x.webp",
     "/thumbnail/999/x.webp", "/image/12/file", "/image/999", "/image/0", "/image/99999999999999999999", "/image/x",
     "/image/..%2f..%2fetc%2fpasswd/file", "/batch/999/report", "/selection/sheet?job=12", "/selection/zip?q=x:"],
)  # fmt: skip
def test_what_is_not_there_is_refused(client: TestClient, path: str) -> None:
    assert client.get(path + ("&everything=1" if path.endswith("x:") else "")).status_code in (404, 422)


def test_a_ledger_that_leads_astray_shows_nothing(client: TestClient, web_ledger: Ledger, hostile: int) -> None:
    astray = update(IMAGES).where(ImageColumns.job_id == hostile).values(path="../ledger.png", sha256="f" * 64)
    with web_ledger.engine.begin() as connection:
        connection.execute(astray)
    assert client.get(f"/image/{hostile}/file").status_code == 404
    small = client.get(f"/thumbnail/{hostile}/{'f' * 64}-128x128.webp")
    assert (small.headers["content-type"], small.headers["cache-control"]) == ("image/svg+xml", "no-store")


def test_a_zip_holds_what_is_chosen(client: TestClient) -> None:
    answer = client.get("/selection/zip?job=2&job=4&job=12")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["00000002-1.png", "00000004-3.png", "metadata.jsonl"]


def test_a_csv_asks_for_the_same_again(client: TestClient) -> None:
    answer = client.get("/selection/csv?everything=1&q=batch:1+seed:2..3")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["seed"], row["Category"]) for row in rows] == [("2", "cool"), ("3", "warm")]


def test_a_contact_sheet_is_one_picture(client: TestClient) -> None:
    sheet = Image.open(io.BytesIO(client.get("/selection/sheet?everything=1&q=batch:1").content))
    assert (sheet.format, sheet.size[0]) == ("PNG", 3 * 260 + 4)


def test_no_more_than_some_can_be_ticked(client: TestClient) -> None:
    assert client.get("/selection/csv?" + "&".join(["job=1"] * 501)).status_code == 422


def test_a_rerun_needs_the_token_of_its_page(client: TestClient, web_ledger: Ledger) -> None:
    before = queries.batches(web_ledger.engine)[0].id
    assert client.post("/image/1/rerun").status_code == 403
    assert client.post("/selection/rerun?job=1", data={"csrf_token": "x"}).status_code == 403
    assert queries.batches(web_ledger.engine)[0].id == before


def test_a_rerun_sets_parameters_and_no_paths(client: TestClient, web_ledger: Ledger) -> None:
    data = {"csrf_token": token(client), "steps": "9", "init_image": "/etc/hostname", "model": "/etc"}
    answer = client.post("/selection/rerun?job=1&job=2", data=data)
    batch = queries.batches(web_ledger.engine)[0]
    assert answer.headers["location"] == f"/history?q=batch%3A{batch.id}"
    page = ids(client.get(answer.headers["location"]).text)
    jobs = [queries.find_job(web_ledger.engine, number) for number in page]
    made = [(job.steps, job.seed, job.init_image, job.model) for job in jobs]
    assert made == [(9, 1, None, "demo"), (9, 0, None, "demo")]


def test_one_image_is_made_again_with_another_seed(client: TestClient, web_ledger: Ledger) -> None:
    answer = client.post("/image/3/rerun", data={"csrf_token": token(client), "seed": "random"})
    new = queries.find_job(web_ledger.engine, int(answer.headers["location"].rpartition("/")[2]))
    old = queries.find_job(web_ledger.engine, 3)
    assert (new.prompt, new.state.value, new.tags) == (old.prompt, "queued", old.tags)
    assert new.priority < old.priority
    assert new.seed != old.seed
    assert 'http-equiv="refresh"' in client.get(answer.headers["location"]).text


def test_a_value_that_cannot_be_is_refused(client: TestClient) -> None:
    answer = client.post("/selection/rerun?job=1", data={"csrf_token": token(client), "steps": "many"})
    assert answer.status_code == 422
    assert "steps" in answer.text


def test_a_failed_job_says_why(client: TestClient) -> None:
    page = client.get("/image/12").text
    assert "Failed: memory" in page
    assert "Out of memory." in page


def test_the_report_may_do_nothing_but_be_seen(client: TestClient) -> None:
    answer = client.get("/batch/2/report?download=1")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert 'filename="promptmill-batch-2.html"' in answer.headers["content-disposition"]
    assert "<script" not in answer.text
