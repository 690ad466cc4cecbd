"""The calls of docs/web.md do what it says, against the program."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

TEXT = (Path(__file__).parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
CALLS = re.findall(r"^\$ (curl .*)$", TEXT, re.MULTILINE)


def read(call: str) -> tuple[str, str, dict[str, Any]]:
    """Method, path and the rest of a request, of a call of curl."""
    words = iter(shlex.split(call)[1:])
    method, url, asked = "GET", "", {"headers": {}, "files": {}, "data": {}}  # type: ignore[var-annotated]
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            asked["headers"][name] = value
        elif word == "-d":
            method, asked["content"] = "POST" if method == "GET" else method, next(words)
        elif word == "-F":
            name, _, value = next(words).partition("=")
            method = "POST"
            kind = asked["files"] if value.startswith("@") else asked["data"]
            kind[name] = (value[1:], b"prompt\na green star\n") if value.startswith("@") else value
        elif word == "-X":
            method = next(words)
        elif word == "-o":
            next(words)
        else:
            url = word
    return method, url.removeprefix("http://127.0.0.1:7860"), {name: value for name, value in asked.items() if value}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_answered(client: TestClient, call: str) -> None:
    method, path, asked = read(call)
    asked.get("headers", {}).pop("Authorization", None)
    answer = client.request(method, path, **asked)
    assert answer.status_code in (200, 201), answer.text


def test_every_route_of_the_description_is_told(client: TestClient) -> None:
    told = re.sub(r"[`|]", " ", TEXT)
    for path in client.get("/api/v1/openapi.json").json()["paths"]:
        last = path.removeprefix("/api/v1").split("/")[-1]
        assert last.strip("{}").removesuffix("_id") in told, path
