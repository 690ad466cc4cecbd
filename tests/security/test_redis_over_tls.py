"""Redis with a password and TLS: a real server, a throw-away authority, and connections that must not be made."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import Result

from producer.errors import QueueUnreachable
from producer.queue import Queue

pytestmark = pytest.mark.redis

PASSWORD = "p%40ss-w0rd"
Call = Callable[..., Result]


class Secured(NamedTuple):
    """A server that takes TLS only, and what is needed to reach it."""

    port: int
    ca: Path
    certificate: Path
    key: Path

    def url(self, host: str = "localhost", password: str = PASSWORD, **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rediss://:{password}@{host}:{self.port}/0?{query}"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def make_certificate(folder: Path, name: str, host: str) -> tuple[Path, Path]:
    """A certificate for a host, signed by an authority of its own: `NAME-ca.pem` stands beside it."""
    authority, key, asked, certificate = (folder / f"{name}{end}" for end in ("-ca.pem", ".key", ".csr", ".pem"))
    extension = folder / f"{name}.ext"
    extension.write_text(f"subjectAltName=DNS:{host}\n")
    elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *elliptic, "-subj", f"/CN={name} ca", "-keyout", folder / f"{name}-ca.key", "-out", authority
    )
    openssl("req", *elliptic, "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
    signed = ("-CA", authority, "-CAkey", folder / f"{name}-ca.key", "-CAcreateserial", "-extfile", extension)
    openssl("x509", "-req", "-in", asked, *signed, "-out", certificate)
    return certificate, key


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(params=["no", "yes"], ids=["", "client certificates"])
def clients(request: pytest.FixtureRequest) -> str:
    """Whether the server wants a certificate of its clients."""
    return str(request.param)


@pytest.fixture
def secured(tmp_path: Path, clients: str) -> Iterator[Secured]:
    program = shutil.which("redis-server")
    if not program or not shutil.which("openssl"):
        pytest.skip("needs redis-server and openssl on the PATH")
    certificate, key = make_certificate(tmp_path, "server", "localhost")
    found = Secured(free_port(), tmp_path / "server-ca.pem", certificate, key)
    config = tmp_path / "redis.conf"
    config.write_text(
        f'port 0\ntls-port {found.port}\nbind 127.0.0.1\nsave ""\ndir {tmp_path}\nrequirepass p@ss-w0rd\n'
        f"tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {found.ca}\ntls-auth-clients {clients}\n"
    )
    server = subprocess.Popen([program, config], stdout=subprocess.PIPE, text=True)
    try:
        if not _is_ready(server):
            pytest.skip("this redis-server was built without TLS")
        yield found
    finally:
        server.kill()
        server.communicate()


def _is_ready(server: "subprocess.Popen[str]") -> bool:
    assert server.stdout
    return any("Ready to accept connections" in line for line in server.stdout)


def options(secured: Secured, clients: str) -> dict[str, object]:
    own = {"ssl_certfile": secured.certificate, "ssl_keyfile": secured.key} if clients == "yes" else {}
    return {"ssl_ca_certs": secured.ca, **own}


def test_a_server_of_a_known_authority_is_used(secured: Secured, clients: str) -> None:
    queue = Queue(secured.url(**options(secured, clients)))
    queue.ping()
    queue.send([[1, 2], [3]], 5)
    assert sorted(map(sorted, queue.waiting_ids())) == [[1, 2], [3]]


@pytest.mark.parametrize("clients", ["no"], indirect=True)
def test_a_server_of_an_unknown_authority_is_refused(secured: Secured, tmp_path: Path) -> None:
    make_certificate(tmp_path, "other", "localhost")
    for query in ({}, {"ssl_ca_certs": tmp_path / "other-ca.pem"}):
        with pytest.raises(QueueUnreachable, match="certificate verify failed"):
            Queue(secured.url(**query)).ping()


@pytest.mark.parametrize("clients", ["no"], indirect=True)
def test_a_server_of_another_name_is_refused(secured: Secured, clients: str) -> None:
    with pytest.raises(QueueUnreachable, match=r"not valid for '127\.0\.0\.1'"):
        Queue(secured.url("127.0.0.1", **options(secured, clients))).ping()


@pytest.mark.parametrize("clients", ["yes"], indirect=True)
def test_a_server_that_wants_to_know_its_clients_gets_no_stranger(secured: Secured) -> None:
    with pytest.raises(QueueUnreachable):
        Queue(secured.url(ssl_ca_certs=secured.ca)).ping()


@pytest.mark.parametrize("clients", ["no"], indirect=True)
def test_a_wrong_password_is_told_and_not_shown(
    secured: Secured, clients: str, promptmill: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTMILL_BROKER_URL", secured.url(password="hunter2", **options(secured, clients)))
    result = promptmill("submit", "-", text="a cat\n")
    assert result.exit_code == 1
    assert "invalid username-password pair" in result.stderr
    assert "hunter2" not in result.output + str(result.exception)
