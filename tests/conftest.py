"""What tests of several folders need: a home of their own, and a real queue."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from configs.settings import get_settings
from db.ledger import Ledger
from db.migrate import open_ledger
from tests import postgres, preloaded


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Modules are imported now, and no test has run."""
    preloaded.fork_parent()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home that every setting stands under, here and in processes started from here."""
    for name in [name for name in os.environ if name.startswith("PROMPTMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTMILL_HOME", str(tmp_path / "home"))
    # Tiny tensors lose more by waiting for a second thread than they gain.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture
def home_ledger(home: Path) -> Iterator[Ledger]:
    """The ledger of that home."""
    ledger = open_ledger(f"sqlite:///{home}/ledger.sqlite3")
    yield ledger
    ledger.engine.dispose()


@pytest.fixture
def promptmill(home: Path) -> Callable[..., Result]:  # noqa: ARG001 - the command reads its place from the environment
    """Calls the command as a user would, in this process."""
    from producer.cli import cli

    def call(*words: object, text: str | None = None) -> Result:
        get_settings.cache_clear()
        return CliRunner().invoke(cli, [str(word) for word in words], input=text)

    return call


#: Marks tests of processes, which do not come closer to the queue's server than others that run on both.
on_valkey = pytest.mark.parametrize("server", ["valkey"], indirect=True)


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.redis)])
def server(request: pytest.FixtureRequest) -> str:
    """The program of a queue server: the Valkey that Promptmill brings, and Debian's Redis."""
    from producer.embedded import server_binary

    if request.param == "valkey":
        return server_binary()
    found = shutil.which("redis-server")
    if found is None and "CI" not in os.environ:
        pytest.skip("needs redis-server on the PATH")
    assert found, "needs redis-server on the PATH"
    return found


@pytest.fixture
def broker(server: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a real queue."""
    from producer.embedded import EmbeddedQueue

    with EmbeddedQueue(tmp_path / "queue", server) as queue:
        yield queue.url


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgres.Server]:
    """A PostgreSQL server, without which no test of it is passed over in CI."""
    found = postgres.programs()
    if found is None and "CI" not in os.environ:
        pytest.skip("needs PostgreSQL")
    assert found, "needs PostgreSQL"
    with postgres.Server(found) as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: postgres.Server) -> Iterator[str]:
    """The URL of an empty ledger in PostgreSQL."""
    url = postgresql.ledger()
    yield url
    postgresql.drop(url)


#: The databases a ledger may lie in, for a fixture.
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty ledger: in SQLite, and in PostgreSQL."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path}/ledger.sqlite3"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.sqlite3"


@pytest.fixture
def any_ledger(database_url: str) -> Iterator[Ledger]:
    """A ledger in SQLite, and one in PostgreSQL."""
    ledger = open_ledger(database_url)
    yield ledger
    ledger.engine.dispose()
