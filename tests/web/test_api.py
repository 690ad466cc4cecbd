"""The HTTP API, asked in process."""

from fastapi.testclient import TestClient

API = "/api/v1"
ROWS = [{"prompt": "a red circle", "seed": 7, "steps": 4, "topic": "shapes"}, {"prompt": "a blue square", "steps": 4}]


def test_rows_become_a_batch(client: TestClient) -> None:
    answer = client.post(f"{API}/batches", json={"rows": ROWS, "name": "two", "defaults": {"num_images": 2}})
    assert answer.status_code == 201, answer.text
    batch = answer.json()["batch"]
    assert (batch["name"], batch["total"], batch["standing"]) == ("two", 4, "waiting")
    found = client.get(f"{API}/jobs", params={"q": f"batch:{batch['id']}"}).json()["jobs"]
    assert sorted(job["prompt"] for job in found) == ["a blue square"] * 2 + ["a red circle"] * 2
    assert {job["tags"].get("topic") for job in found} == {"shapes", None}


def test_one_wrong_row_and_nothing_is_queued(client: TestClient) -> None:
    before = client.get(f"{API}/batches").json()
    file = ("../../wrong.csv", b"prompt,steps\nfine,4\nnot fine,0\n", "text/csv")
    answer = client.post(f"{API}/batches/file", files={"file": file})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["problems"][0].startswith("wrong.csv:3: steps: ")
    assert client.get(f"{API}/batches").json() == before


def test_a_plan_queues_nothing(client: TestClient) -> None:
    before = client.get(f"{API}/batches").json()["batches"][0]["id"]
    answer = client.post(f"{API}/batches", json={"rows": ROWS * 2, "plan": True, "once": True})
    assert (answer.status_code, answer.json()["images"]) == (200, 2)
    assert client.get(f"{API}/batches").json()["batches"][0]["id"] == before


def test_a_request_repeated_with_its_key_does_nothing(client: TestClient) -> None:
    def submit(rows: list[dict[str, object]]) -> tuple[int, dict[str, object]]:
        answer = client.post(f"{API}/batches", json={"rows": rows}, headers={"Idempotency-Key": "overnight-1"})
        return answer.status_code, answer.json()

    (_, first), (_, second), (status, refusal) = submit(ROWS), submit(ROWS), submit(ROWS[:1])
    assert first["batch"]["id"] == second["batch"]["id"]  # type: ignore[index]
    assert (first["repeated"], second["repeated"], status) == (False, True, 409)
    assert "draw a new one" in str(refusal["detail"])


def test_rows_from_elsewhere_name_no_paths(client: TestClient) -> None:
    for row in ({"model": "/etc"}, {"model": "configs/../etc"}, {"init_image": "/etc/passwd"}, {"mask": "x.png"}):
        answer = client.post(f"{API}/batches", json={"rows": [{"prompt": "x", **row}]})
        assert answer.status_code == 422, row
    for more in (
        {"defaults": {"model": "/etc"}},
        {"sweep": ["model=demo,/etc"]},
        {"defaults": {"init_image": "/a.png"}},
    ):
        answer = client.post(f"{API}/batches", json={"rows": ROWS, **more})
        assert answer.status_code == 422, more
    assert client.post(f"{API}/batches", json={"rows": ROWS, "defaults": {"outside": False}}).status_code == 422


def test_a_batch_is_paused_resumed_prioritised_cancelled_and_tried_again(client: TestClient) -> None:
    batch = client.post(f"{API}/batches", json={"rows": ROWS}).json()["batch"]["id"]

    def do(verb: str) -> tuple[str, int | None]:
        changed = client.post(f"{API}/batches/{batch}/{verb}").json()
        return changed["batch"]["standing"], changed["jobs"]

    assert do("pause") == ("paused", None)
    assert do("resume") == ("waiting", None)
    changed = client.put(f"{API}/batches/{batch}/priority", json={"priority": 1}).json()
    assert changed["batch"]["priority"] == 1
    assert do("cancel") == ("done", 2)
    assert do("retry") == ("waiting", 2)


def test_pages_of_jobs_have_each_once(client: TestClient) -> None:
    seen, after = [], None
    while True:
        asked = {"q": "circle", "limit": 4, "sort": "seed", **({"after": after} if after else {})}
        page = client.get(f"{API}/jobs", params=asked)
        seen += [job["id"] for job in page.json()["jobs"]]
        if not (after := page.json()["next"]):
            break
    assert len(seen) == len(set(seen)) == len(client.get(f"{API}/jobs", params={"q": "circle"}).json()["jobs"])


def test_an_image_comes_by_its_job(client: TestClient) -> None:
    job = client.get(f"{API}/jobs", params={"q": "state:succeeded"}).json()["jobs"][0]
    picture = client.get(job["image_url"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert picture.content.startswith(b"\x89PNG")
    assert not any("/" in str(value) for name, value in job.items() if name.endswith("path"))


def test_errors_are_the_sentences_of_the_command(client: TestClient) -> None:
    answer = client.get(f"{API}/jobs/999999")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "There is no job 999999; `promptmill history` lists them.",
    )
    answer = client.get(f"{API}/jobs", params={"q": "steps:many"})
    assert answer.status_code == 422
    assert "steps" in answer.json()["detail"]


def test_the_report_of_a_batch_is_one_page(client: TestClient) -> None:
    answer = client.get(f"{API}/batches/2/report")
    assert "3 of 5" in answer.text or "mixed.csv" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
