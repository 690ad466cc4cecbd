"""The API holds what its description says, whatever it is asked."""

import sys
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings

from configs.settings import Settings
from db.ledger import Ledger
from producer.web import credentials
from producer.web.access import Access
from producer.web.app import create_app

if sys.version_info < (3, 11):
    pytest.skip("schemathesis has dropped Python 3.10", allow_module_level=True)

import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

#: They have rules of their own beyond what a schema says: those of parameters, and of the query language.
CHOOSY = ("POST /api/v1/batches", "POST /api/v1/batches/file", "GET /api/v1/jobs")


@pytest.fixture(scope="module")
def guarded(web_settings: Settings, web_ledger: Ledger) -> tuple[FastAPI, str]:
    """The application as it is on a public address, and a token for it."""
    token = credentials.new_token(web_settings.home, "schemathesis")
    return create_app(web_settings, web_ledger, Access(web_settings.home, hosts=None, open_to_all=False)), token


@pytest.fixture(scope="module")
def described(guarded: tuple[FastAPI, str]) -> Any:
    app, token = guarded
    bearer = {"Authorization": f"Bearer {token}"}
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=bearer)


def test_every_answer_is_one_that_is_described(guarded: tuple[FastAPI, str], described: Any) -> None:
    headers, tried = {"Authorization": f"Bearer {guarded[1]}"}, 0
    for found in described.get_all_operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            ask_at_random(found.ok(), mode, headers)
            tried += 1
    assert tried >= 20


def ask_at_random(operation: Any, mode: GenerationMode, headers: dict[str, str]) -> None:
    @given(operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=4,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        excluded = [positive_data_acceptance] if operation.label in CHOOSY else []
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    ask()
