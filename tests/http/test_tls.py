"""TLS of the side port: who has no certificate of the authority gets no connection."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyprof_agent
from pyprof_agent import ConfigError, NotRunningError, ServeError
from pyprof_agent.formats.pprof import decode
from pyprof_agent.http.server import Server
from tests.conftest import GoPprof, left_running
from tests.support import get


@pytest.fixture(autouse=True)
def without_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heap engine has nothing to do here, and makes a server slow."""
    monkeypatch.setenv("PYPROF_AGENT_HEAP", "0")


@pytest.fixture(scope="module")
def certificates(go_program: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with those of ca, server and client, and of other-ca and stranger."""
    folder = tmp_path_factory.mktemp("certificates")
    subprocess.run([go_program, "certify", str(folder)], check=True, timeout=60)
    return folder


@contextlib.contextmanager
def serving(folder: Path, **options: object) -> Iterator[Server]:
    files = {"certfile": folder / "server.pem", "keyfile": folder / "server-key.pem"}
    server = pyprof_agent.serve(port=0, **{**files, **options})  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.stop()


def client(folder: Path, name: str | None) -> ssl.SSLContext:
    """A client that trusts `ca` and has the certificate `name`."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if name:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}-key.pem")
    return context


def ask(url: str, context: ssl.SSLContext) -> bytes:
    with urllib.request.urlopen(url, context=context, timeout=60) as answer:
        body: bytes = answer.read()
        return body


def test_with_a_certificate_the_port_is_https_and_access_is_as_ever(certificates: Path) -> None:
    with serving(certificates) as server:
        assert server.url.startswith("https://127.0.0.1:")
        anybody = client(certificates, None)
        assert decode(ask(f"{server.url}goroutine", anybody)).samples
        assert b"go tool pprof -http=: &#x27;https://127.0.0.1:" in ask(server.url, anybody)
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            get(f"{server.url}goroutine")
        plain = server.url.replace("https", "http")
        with pytest.raises(OSError, match=r"closed|reset|refused|Empty|disconnect"):
            get(f"{plain}goroutine")


def test_only_clients_of_the_authority_get_in(certificates: Path) -> None:
    with serving(certificates, client_ca=certificates / "ca.pem") as server:
        url = f"{server.url}goroutine"
        assert decode(ask(url, client(certificates, "client"))).samples
        for name in (None, "stranger"):
            with pytest.raises(OSError, match=r"(?i)alert|reset|closed|EOF|broken pipe") as refused:
                ask(url, client(certificates, name))
            assert not isinstance(refused.value, urllib.error.HTTPError)
        assert decode(ask(url, client(certificates, "client"))).samples


def test_a_certificate_of_the_authority_is_enough_and_access_can_ask_for_more(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = certificates / "ca.pem"
    context = client(certificates, "client")

    def status(server: Server, **headers: str) -> int:
        request = urllib.request.Request(f"{server.url}goroutine", headers=headers)
        try:
            with urllib.request.urlopen(request, context=context, timeout=60) as answer:
                found: int = answer.status
                return found
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    # A Host that loopback's rule refuses stands for a client elsewhere.
    with serving(certificates, client_ca=ca) as server:
        assert status(server, Host="shop.example") == 200
    with serving(certificates, client_ca=ca, access=lambda scope: False) as server:
        assert status(server) == 403
    monkeypatch.setenv("PYPROF_AGENT_ACCESS_TOKEN", "secret")
    with serving(certificates, client_ca=ca) as server:
        assert status(server) == 401
        assert status(server, Authorization="Bearer secret") == 200


def test_go_tool_pprof_reads_over_https(
    go_pprof: GoPprof, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That of Go heeds none of its options -tls_ca, -tls_cert and -tls_key.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    with serving(certificates) as server:
        assert "Type: goroutine" in go_pprof("-top", f"{server.url}goroutine")


def test_certificate_and_key_may_be_in_one_file(certificates: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(
        (certificates / "server.pem").read_bytes() + (certificates / "server-key.pem").read_bytes()
    )
    with serving(certificates, certfile=str(both), keyfile=None) as server:
        assert ask(f"{server.url}goroutine", client(certificates, None))


def test_a_client_that_never_ends_its_handshake_holds_up_nobody(certificates: Path) -> None:
    with contextlib.ExitStack() as silent:
        with serving(certificates, client_ca=certificates / "ca.pem") as server:
            for _ in range(20):
                silent.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            assert ask(f"{server.url}goroutine", client(certificates, "client"))
        pyprof_agent.stop()
        assert left_running(30) == []  # though they are still there


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"certfile": "no.pem"}, r"certfile is '.*no\.pem', which cannot be read: No such file"),
        ({"keyfile": "no.pem"}, r"keyfile is '.*no\.pem', which cannot be read: No such file"),
        ({"client_ca": "no.pem"}, r"client_ca is '.*no\.pem', which cannot be read: No such file"),
        ({"client_ca": "."}, r"client_ca is '.*', which cannot be read: Is a directory"),
        (
            {"keyfile": "client-key.pem"},
            r"certfile '.*server\.pem' and keyfile '.*client-key\.pem'",
        ),
        ({"certfile": "junk.pem"}, r"are no certificate and its key in PEM format: "),
        ({"client_ca": "junk.pem"}, r"client_ca '.*junk\.pem' has no certificates in PEM format: "),
        ({"keyfile": "encrypted-key.pem"}, r"keyfile is encrypted; give a key without a password"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_file_that_cannot_be_used_is_told_and_nothing_is_left(
    certificates: Path, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    (tmp_path / "junk.pem").write_text("junk\n")
    files = {
        option: (tmp_path if name == "junk.pem" else certificates) / name
        for option, name in options.items()
    }
    found: list[BaseException] = []

    def serve() -> None:  # in a thread, as one that asked for a password would wait for ever
        try:
            with serving(certificates, **files):
                pass
        except ServeError as error:
            found.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    thread.join(60)
    (error,) = found
    assert re.search(message, str(error))
    with pytest.raises(NotRunningError):
        pyprof_agent.current_agent()


@pytest.mark.parametrize("option", ["keyfile", "client_ca"])
def test_without_a_certificate_of_its_own_the_rest_is_an_error(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} needs certfile"):
        pyprof_agent.serve(port=0, **{option: "some.pem"})  # type: ignore[arg-type]
