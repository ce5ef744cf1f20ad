"""The door of the application: what is answered to whom, and that nothing is collected before."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect

import pyprof_agent
from pyprof_agent import Agent, Config, ConfigError, make_asgi_app
from pyprof_agent.access import Basic, Loopback, Networks, Token
from pyprof_agent.config import Limits
from pyprof_agent.http.app import make_app
from tests.support import free_port, get, running

SECRET = "s3cret-Tok3n"
BEARER = {"authorization": f"Bearer {SECRET}"}
PATHS = ["/", "", "/heap", "/heap?gc=1", "/profile?seconds=100", "/symbol", "/cmdline", "/nosuch"]


@pytest.fixture(autouse=True)
def without_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heap engine has nothing to do here."""
    monkeypatch.setenv("PYPROF_AGENT_HEAP", "0")


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent that only looks at threads."""
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()
    yield agent
    agent.stop()


def client_of(app: ASGIApp, peer: object = ("127.0.0.1", 1), host: str = "localhost") -> TestClient:
    return TestClient(app, base_url=f"http://{host}", client=peer)  # type: ignore[arg-type]


def untouchable() -> Any:
    raise AssertionError("something was collected")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize(
    ("access", "status"),
    [
        (Loopback(), 403),
        (Networks("10.0.0.0/8"), 403),
        (Token(SECRET), 401),
        (Basic("me", SECRET), 401),
        (Networks("203.0.113.0/24") & Token(SECRET), 401),
        (Networks("10.0.0.0/8") & Token(SECRET), 403),
    ],
)
def test_who_is_refused_learns_nothing_and_nothing_is_collected(
    access: Any, status: int, method: str, path: str
) -> None:
    app = make_app(untouchable, cmdline=True, access=access, limits=Limits())
    answer = client_of(app, ("203.0.113.9", 1)).request(
        method, path, headers={"x-forwarded-for": "127.0.0.1", "forwarded": "for=10.0.0.1"}
    )
    assert answer.status_code == status
    assert answer.headers["x-go-pprof"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert SECRET not in answer.text + str(answer.headers)


def test_each_challenge_has_a_field_of_its_own(agent: Agent) -> None:
    client = client_of(make_asgi_app(agent, access=Token(SECRET) | Basic("me", SECRET)))
    assert client.get("/").headers.get_list("www-authenticate") == [
        'Bearer realm="pprof"',
        'Basic realm="pprof", charset="UTF-8"',
    ]
    assert client.get("/goroutine", auth=("me", SECRET)).status_code == 200
    assert client.get("/goroutine", headers=BEARER).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "new-value"},
        {"sec-fetch-site": "same-origin, cross-site"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
        {"origin": ""},
    ],
)
@pytest.mark.parametrize("access", [None, Token(SECRET), lambda _: True])
def test_a_page_of_another_site_is_refused(agent: Agent, access: Any, headers: Any) -> None:
    app = client_of(make_asgi_app(agent, access=access))
    answer = app.get("/goroutine", headers={**BEARER, **headers})
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert answer.headers["x-go-pprof"] == "1"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin", "origin": "https://debug.example"},
        {"origin": "http://localhost"},
        {"origin": "HTTP://LOCALHOST"},
    ],
)
def test_a_person_and_a_page_of_this_site_are_answered(agent: Agent, headers: Any) -> None:
    assert client_of(make_asgi_app(agent)).get("/goroutine", headers=headers).status_code == 200


def test_a_name_that_was_made_to_lead_here_is_refused(agent: Agent) -> None:
    answer = client_of(make_asgi_app(agent), host="evil.example").get(
        "/goroutine", headers={"sec-fetch-site": "same-origin"}
    )
    assert answer.status_code == 403
    assert "the Host header 'evil.example' is no name of the loopback interface" in answer.text
    # Where no address was trusted, any name will do.
    app = make_asgi_app(agent, access=Token(SECRET))
    assert client_of(app, host="evil.example").get("/goroutine", headers=BEARER).status_code == 200


def test_the_secret_is_not_on_the_index(agent: Agent) -> None:
    page = client_of(make_asgi_app(agent, access=Token(SECRET))).get("/", headers=BEARER)
    assert page.status_code == 200
    assert SECRET not in page.text + str(page.headers)


def test_the_environment_decides_if_nothing_is_given(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYPROF_AGENT_ACCESS_TOKEN", SECRET)
    app = client_of(make_asgi_app(agent), ("203.0.113.9", 1), "shop.example")
    assert app.get("/goroutine").status_code == 401
    assert app.get("/goroutine", headers=BEARER).status_code == 200
    app = client_of(make_asgi_app(agent, access=Loopback()))
    assert app.get("/goroutine").status_code == 200
    monkeypatch.setenv("PYPROF_AGENT_ACCESS_TOKEN", "")
    with pytest.raises(ConfigError, match="PYPROF_AGENT_ACCESS_TOKEN cannot be used"):
        make_asgi_app(agent)
    make_asgi_app(agent, access=Loopback())  # what is given in code goes first


def test_a_wrong_access_leaves_no_agent_behind() -> None:
    with pytest.raises(ConfigError, match="access is of no use as str"):
        pyprof_agent.serve(port=0, access="loopback")  # type: ignore[arg-type]
    with pytest.raises(pyprof_agent.NotRunningError):
        pyprof_agent.current_agent()


@pytest.mark.parametrize("access", [None, lambda _: True])
def test_a_websocket_is_refused_whoever_asks(agent: Agent, access: Any) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as caught,
        client_of(make_asgi_app(agent, access=access)).websocket_connect("/heap"),
    ):
        pass
    assert caught.value.code == 1008


def test_a_server_may_start_and_end_it(agent: Agent) -> None:
    with client_of(make_asgi_app(agent, access=lambda _: False)) as client:  # with lifespan
        assert client.get("/").status_code == 403


def test_the_side_port_asks_for_what_it_is_told_to() -> None:
    server = pyprof_agent.serve(port=0, host="0.0.0.0", access=Basic("me", SECRET))
    try:
        assert server.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{server.url}goroutine").status_code == 401
        assert httpx.get(f"{server.url}goroutine", auth=("me", SECRET)).status_code == 200
    finally:
        server.stop()


SERVICE = """
import pyprof_agent
from pyprof_agent.access import Token
pyprof_agent.start(heap=False, stacks=False)
local = pyprof_agent.make_asgi_app()
token = pyprof_agent.make_asgi_app(access=Token("s3cret-Tok3n"))
"""


@pytest.mark.parametrize(("app", "status"), [("local", 403), ("token", 200)])
def test_behind_a_unix_socket_only_a_credential_lets_in(
    tmp_path: Path, app: str, status: int
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    path = tmp_path / "s.sock"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "--uds", str(path)]
    process = subprocess.Popen([*command, f"service:{app}"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        transport = httpx.HTTPTransport(uds=str(path), retries=5)
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            assert client.get("/goroutine", headers=BEARER).status_code == status
    finally:
        process.terminate()
        process.wait(20)


def test_forged_headers_help_nobody_with_a_real_server(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "--port", str(port)]
    with running([*command, "service:local"], ready=f"{base}/goroutine"):
        assert get(f"{base}/goroutine")
        for headers in (
            {"x-forwarded-for": "203.0.113.9"},  # uvicorn believes it: a stranger behind a proxy
            {"host": "evil.example"},
            {"host": "localhost.evil.example", "x-forwarded-for": "127.0.0.1"},
            {"sec-fetch-site": "cross-site"},
            {"origin": "http://evil.example"},
        ):
            answer = httpx.get(f"{base}/goroutine", headers=headers)
            assert answer.status_code == 403, headers
            assert answer.headers["x-go-pprof"] == "1"
