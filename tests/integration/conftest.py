"""The ledger of tests with processes."""

import pytest


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """In SQLite, but where a test says otherwise: the ledger's own tests are run on each database."""
    return sqlite_url
