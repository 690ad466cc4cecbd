"""The pages that make images, asked in this process: what they take, and what they refuse."""

import io
import os
import re
import zlib
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from configs.init_images import picture_size
from configs.settings import Settings
from db import queries
from db.glimpses import INTERACTIVE
from db.ledger import Ledger
from db.search import Query, find, term
from producer.web.previews import Kept, Previews
from producer.web.uploads import Uploads


def token(client: TestClient, page: str = "/make") -> dict[str, str]:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(page).text)
    assert found
    return {"csrf_token": found[1]}


def send(client: TestClient, kind: str = "txt2img", files: Any = None, **given: str) -> Any:
    given = {"prompt": "a red circle", **token(client), **given}
    return client.post(f"/make/{kind}", data=given, files=files, headers={"accept": "text/html"})


def picture(size: tuple[int, int] = (96, 64), kind: str = "PNG", colour: str = "teal") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, colour).save(written, kind)
    return written.getvalue()


def jobs(ledger: Ledger, answer: Any) -> list[Any]:
    assert answer.status_code == 303, answer.text
    batch = int(answer.headers["location"].partition("batch=")[2])
    return list(find(ledger.engine, Query((term("batch", batch),)), limit=50, ascending=True))


def bomb() -> bytes:
    """A PNG of 60000 by 60000 pixels in few bytes."""
    head = b"IHDR" + pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    parts = (head, b"IDAT" + zlib.compress(b"\0" * 1000), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(pack(">I", len(p) - 4) + p + pack(">I", zlib.crc32(p)) for p in parts)


@pytest.mark.parametrize("address", ["/", "/make", "/make/img2img", "/make/inpaint", "/batch"])
def test_a_page_shows_its_form(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    assert "<form" in answer.text


def test_a_form_becomes_a_job_that_goes_before_batches(client: TestClient, web_ledger: Ledger) -> None:
    made = jobs(web_ledger, send(client, seed="7", num_images="2", n_iter="2", steps="4", image_format="webp"))
    assert [job.seed for job in made] == [7, 8, 9, 10]
    assert {(job.steps, job.priority) for job in made} == {(4, INTERACTIVE)}
    assert queries.find_batch(web_ledger.engine, str(made[0].batch_id)).image_format == "webp"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("steps", "many", "is not a whole number from 1 to 1000"),
        ("width", "65", "a multiple of 8"),
        ("sampler", "Eular", "Euler"),
        ("prompt", " ", "is empty"),
        ("n_iter", "900", "is not a whole number"),
        ("model", "/etc/passwd", "is no model"),
        ("model", "../models", "is no model"),
        ("image_format", "exe", "is not png"),
    ],
)
def test_what_is_wrong_stands_at_its_field(client: TestClient, field: str, value: str, said: str) -> None:
    given = {"num_images": "2", field: value}
    answer = send(client, **given)
    assert answer.status_code == 422
    assert said in re.search(rf'id="{field}-wrong">([^<]*)', answer.text)[1]  # type: ignore[index]


def test_a_prompt_is_shown_as_text(client: TestClient) -> None:
    answer = send(client, prompt="<script>alert(1)</script>", steps="x")
    assert "<script>alert(1)" not in answer.text


def test_an_upload_is_kept_cropped_under_its_digest(
    client: TestClient, web_ledger: Ledger, web_settings: Settings
) -> None:
    crop = {"crop_left": "16", "crop_width": "64"}
    answer = send(client, "img2img", {"init_file": ("../../x.png", picture((128, 64)))}, strength="0.5", **crop)
    (job,) = jobs(web_ledger, answer)
    path = Path(job.init_image)
    assert path.parent == web_settings.home.resolve() / "uploads"
    assert re.fullmatch(r"[0-9a-f]{64}\.png", path.name)
    assert (job.width, job.height) == picture_size(str(path)) == (64, 64)
    assert client.get(f"/make/upload/{path.stem}.png").status_code == 200


def test_uploads_that_no_job_names_are_removed_after_a_day(
    client: TestClient, web_ledger: Ledger, web_settings: Settings
) -> None:
    uploads = Uploads(web_settings)
    (job,) = jobs(web_ledger, send(client, "img2img", {"init_file": ("x.png", picture((72, 64)))}, strength="0.5"))
    left, fresh = (uploads.copy(square(web_settings.home, size)) for size in (80, 88))
    for path in (Path(job.init_image), uploads.path(left)):
        os.utime(path, (0, 0))
    uploads.tidy(web_ledger.engine)
    kept = {path.name for path in uploads.folder.iterdir()}
    assert {Path(job.init_image).name, f"{fresh}.png"} <= kept
    assert f"{left}.png" not in kept


def square(folder: Path, side: int) -> Path:
    path = folder / f"{side}.png"
    path.write_bytes(picture((side, side)))
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bomb(), "pixels; make it smaller"),
        (b"not a picture", "cannot be read as a picture"),
        (picture()[:60], "cannot be read as a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read as a picture"),
        (b"", "is missing"),
    ],
)
def test_a_hostile_upload_is_refused_at_its_field(client: TestClient, content: bytes, said: str) -> None:
    answer = send(client, "img2img", {"init_file": ("x.png", content)})
    assert answer.status_code == 422
    assert said in answer.text
    assert "/tmp" not in answer.text


@pytest.mark.parametrize("digest", ["../ledger", "0" * 64, "..%2f..%2fledger.sqlite3", "x" * 64])
def test_only_kept_pictures_are_found(client: TestClient, digest: str) -> None:
    assert client.get(f"/make/upload/{digest}.png").status_code in (404, 422)
    assert send(client, "img2img", init=digest).status_code == 422


def test_inpainting_needs_picture_and_mask(client: TestClient, web_ledger: Ledger) -> None:
    answer = send(client, "inpaint", {"init_file": ("x.png", picture())})
    assert "is missing; paint over" in answer.text
    kept = re.search(r'name="init" value="([0-9a-f]{64})"', answer.text)
    assert kept
    files = {"mask_file": ("m.png", picture(colour="white"))}
    (job,) = jobs(web_ledger, send(client, "inpaint", files, init=kept[1]))
    with Image.open(job.mask_image) as mask:
        assert mask.mode == "L"


@pytest.mark.parametrize("kind", ["txt2img", "img2img", "inpaint"])
def test_a_page_of_pictures_makes_them_again(client: TestClient, web_ledger: Ledger, kind: str) -> None:
    files = {name: ("x.png", picture(colour="white")) for name in ("init_file", "mask_file") if kind != "txt2img"}
    answer = send(client, kind, files or None, steps="5")
    shown = client.get(answer.headers["location"]).text
    assert "Again</button>" in shown
    hidden = dict(re.findall(r'type="hidden" name="(init|init_job|mask)" value="([^"]*)"', shown))
    (first,), (second,) = jobs(web_ledger, answer), jobs(web_ledger, send(client, kind, steps="5", **hidden))
    assert (first.init_image, first.mask_image) == (second.init_image, second.mask_image)
    assert (first.init_image is None) == (kind == "txt2img")


def test_a_job_fills_the_form_and_lends_its_picture(client: TestClient, web_ledger: Ledger) -> None:
    (first, *_) = find(web_ledger.engine, Query((term("state", "succeeded"),)), limit=1, ascending=True)
    assert first.prompt in client.get(f"/make?from={first.id}").text
    assert f'value="{first.id}"' in client.get(f"/make/img2img?from={first.id}").text
    (job,) = jobs(web_ledger, send(client, "img2img", init_job=str(first.id), steps="4"))
    assert (job.width, job.height) == (64, 64)


def test_variations_draw_seeds_or_vary_the_strength(client: TestClient, web_ledger: Ledger) -> None:
    (job,) = jobs(web_ledger, send(client, "img2img", {"init_file": ("x.png", picture())}, strength="0.5"))
    answer = client.post(f"/make/img2img/variations/{job.id}", data=token(client))
    assert [made.strength for made in jobs(web_ledger, answer)] == [0.3, 0.4, 0.5, 0.6]
    (job,) = jobs(web_ledger, send(client, seed="3"))
    made = jobs(web_ledger, client.post(f"/make/txt2img/variations/{job.id}", data=token(client)))
    assert len({one.seed for one in made} - {3}) == 4


def test_progress_tells_states(client: TestClient, web_ledger: Ledger) -> None:
    (job,) = jobs(web_ledger, send(client))
    said = client.get(f"/make/progress/{job.batch_id}").json()
    assert (said["done"], said["jobs"][0]["state"]) == (False, "queued")


def test_a_bad_row_is_shown_in_its_place(client: TestClient) -> None:
    files = {"file": ("night.csv", b"prompt,steps\na red circle,4\na blue circle,lots\n")}
    answer = client.post("/batch/preview", data=token(client, "/batch"), files=files)
    assert answer.status_code == 422
    assert "a blue circle,lots" in answer.text
    assert re.search(r'<td class="figure">3</td><td><strong>steps</strong>', answer.text)


def test_what_is_odd_is_said_of_the_file_as_its_owner_knows_it(client: TestClient) -> None:
    files = {"file": ("night.csv", b"prompt\na {red|blue} circle\n" + b"word " * 90)}
    shown = client.post("/batch/preview", data=token(client, "/batch"), files=files).text
    assert "night.csv:2: prompt: looks like a template" in shown
    assert "night.csv:3: prompt: is longer than the 77 tokens" in shown
    assert "too long for their checkpoint: 1." in shown


def test_templates_and_sweeps_are_counted_then_submitted_once(client: TestClient, web_ledger: Ledger) -> None:
    given = {
        **token(client, "/batch"),
        "text": "a {red|blue} circle",
        "template": "combinatorial",
        "sweep": "steps=2,3",
    }
    shown = client.post("/batch/preview", data=given).text
    assert "would become 4 images" in shown
    word = re.search(r'name="word" value="([^"]+)"', shown)
    assert word
    answers = [client.post("/batch", data={**token(client, "/batch"), "word": word[1]}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert queries.batches(web_ledger.engine, 1)[0].total == 4


def test_a_previewed_file_is_found_by_its_own_session_alone() -> None:
    previews = Previews()
    word = previews.keep(Kept("mine", b"a", "x.txt", {}))
    assert previews.find(word, "mine")
    assert previews.find(word, "other") is None
    assert previews.find("guess", "mine") is None


def test_a_form_without_its_token_is_refused(client: TestClient) -> None:
    assert client.post("/make/txt2img", data={"prompt": "x"}).status_code == 403
