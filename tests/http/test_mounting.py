"""Mounted anywhere, behind proxies that strip a prefix and those that do not."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from pyprof_agent import Agent, Config, make_asgi_app
from pyprof_agent.http.mounting import whole_path
from tests.support import free_port, running

SEGMENTS = st.text(alphabet="abé/ .%", max_size=6)


@pytest.fixture
def debug_app() -> Iterator[ASGIApp]:
    """An application whose agent only looks at threads."""
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()
    yield make_asgi_app(agent)
    agent.stop()


def fastapi_behind_a_proxy(app: ASGIApp) -> ASGIApp:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer ones would have the server told instead
        service = FastAPI(root_path="/api/v1")
    service.mount("/debug/pprof", app)
    return service


def two_mounts(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/debug", Starlette(routes=[Mount("/pprof", app)]))])


def fastapi_in_starlette(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/api/v1", fastapi_behind_a_proxy(app))])


class OldConvention:
    """A framework that takes what it has matched off the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            rest = scope["path"].removeprefix("/debug/pprof")
            scope = {**scope, "path": rest, "root_path": "/debug/pprof"}
        await self._app(scope, receive, send)


@pytest.mark.parametrize(
    ("mount", "root", "before", "shown"),
    [
        (fastapi_behind_a_proxy, "", "", "/api/v1"),
        (fastapi_behind_a_proxy, "", "/api/v1", "/api/v1"),
        (two_mounts, "", "", ""),
        # Stripped and two deep, Starlette's own inner mount is not found: nothing comes to us.
        (two_mounts, "/api", "/api", "/api"),
        (two_mounts, "/api/", "/api/", None),  # as uvicorn joins them
        (fastapi_in_starlette, "", "/api/v1", None),
        (OldConvention, "", "", ""),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_path_is_served(
    debug_app: ASGIApp,
    mount: type[OldConvention],
    root: str,
    before: str,
    shown: str | None,
    slash: str,
) -> None:
    client = TestClient(
        mount(debug_app),
        base_url="http://localhost",
        client=("127.0.0.1", 1),
        root_path=root,
        follow_redirects=False,
    )
    page = client.get(f"{before}/debug/pprof/")
    assert page.status_code == 200
    if shown is not None:  # the address that the proxy is asked at
        assert f"http://localhost{shown}/debug/pprof/goroutine" in page.text
    assert client.get(f"{before}/debug/pprof/goroutine{slash}").status_code == 200
    assert client.get(f"{before}/debug/pprof/goroutine?debug=1").status_code == 200
    assert client.get(f"{before}/debug/pprof/symbol").text == "num_symbols: 1\n"
    assert client.get(f"{before}/debug/pprof/nosuch").text == "Unknown profile\n"
    if mount is not OldConvention:  # where that is the same as without
        twice = client.get(f"{before}/debug/pprof/debug/pprof/goroutine")
        assert twice.status_code == 404


@pytest.mark.parametrize(
    ("path", "root", "whole"),
    [
        ("/heap", "", "/heap"),
        ("/debug/pprof/heap", "/debug/pprof", "/debug/pprof/heap"),
        ("/debug/pprof", "/debug/pprof", "/debug/pprof"),
        ("/debug/pprof/heap", "/api/debug/pprof", "/api/debug/pprof/heap"),
        ("/pprof/heap", "/api/debug/pprof", "/api/debug/pprof/heap"),
        ("/heap", "/debug/pprof", "/debug/pprof/heap"),
        ("/debug/pprofheap", "/debug/pprof", "/debug/pprof/debug/pprofheap"),
        ("", "/api", "/api"),
    ],
)
def test_the_whole_path_is_below_the_root(path: str, root: str, whole: str) -> None:
    assert whole_path(path, root) == whole


@given(st.builds("/{}".format, SEGMENTS), st.builds("/{}".format, SEGMENTS))
def test_any_path_comes_below_any_root_and_stays_there(path: str, root: str) -> None:
    root = root.rstrip("/")
    whole = whole_path(path, root)
    assert whole.startswith(root)
    assert whole.endswith(path)
    assert whole_path(whole, root) == whole


SERVICE = """
import pyprof_agent
from fastapi import FastAPI
pyprof_agent.start(heap=False, stacks=False)
app = FastAPI()
app.mount("/debug/pprof", pyprof_agent.make_asgi_app())
"""


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_uvicorn_is_told_the_root_path(http: str, tmp_path: Path) -> None:
    if http == "httptools":
        pytest.importorskip("httptools")
    (tmp_path / "service.py").write_text(SERVICE)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "--port", str(port)]
    command += ["--root-path", "/api", "--http", http, "service:app"]
    # As the stripping proxy asks for it.
    base = f"http://127.0.0.1:{port}/debug/pprof/"
    with running(command, ready=base):
        assert f"127.0.0.1:{port}/api/debug/pprof/goroutine" in httpx.get(base).text
        assert httpx.get(f"{base}goroutine").status_code == 200
        assert httpx.get(f"{base}nosuch").status_code == 404
