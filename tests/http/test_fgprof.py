"""The wall profile where Go's package fgprof has it: at /debug/fgprof, beside the mount."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

import pyprof_agent
from pyprof_agent import Agent, Config, ConfigError, make_fgprof_app
from pyprof_agent.formats.pprof import decode
from tests.support import get


@pytest.fixture
def fgprof() -> Iterator[ASGIApp]:
    """The application, of an agent that looks at stacks only."""
    agent = Agent(Config(heap=False, stack_hz=200))
    agent.start()
    yield make_fgprof_app(agent, max_seconds=5)
    agent.stop()


def routed_in_starlette(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Route("/debug/fgprof", app)])


def routed_in_fastapi(app: ASGIApp) -> ASGIApp:
    service = FastAPI()
    service.add_route("/debug/fgprof", app)  # type: ignore[arg-type]
    return service


def mounted(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/debug/fgprof", app)])


def client_of(app: ASGIApp, peer: str = "127.0.0.1") -> TestClient:
    return TestClient(app, base_url="http://localhost", client=(peer, 1))


def test_it_is_the_wall_profile_at_the_path_that_scrapers_know(fgprof: ASGIApp) -> None:
    apps = [host(fgprof) for host in (routed_in_starlette, routed_in_fastapi, mounted)]
    with ThreadPoolExecutor(len(apps)) as pool:
        answers = pool.map(lambda app: client_of(app).get("/debug/fgprof?seconds=1"), apps)
        for answer in answers:
            assert answer.status_code == 200
            assert answer.headers["content-disposition"] == 'attachment; filename="fgprof"'
            profile = decode(answer.content)
            assert [kind.type for kind in profile.sample_types] == ["samples", "wall"]
            assert profile.duration_nanos > 0.9e9
            assert profile.samples


def test_it_has_the_door_and_the_limits_of_the_others(fgprof: ASGIApp) -> None:
    app = routed_in_starlette(fgprof)
    assert client_of(app, "10.0.0.5").get("/debug/fgprof").status_code == 403
    client = client_of(app)
    assert client.get("/debug/fgprof?seconds=6").status_code == 400
    assert client.post("/debug/fgprof").status_code == 405
    assert client.head("/debug/fgprof").status_code == 200


def test_without_an_agent_it_says_so() -> None:
    assert client_of(make_fgprof_app()).get("/").status_code == 503
    with pytest.raises(ConfigError, match="max_seconds"):
        make_fgprof_app(max_seconds=0)


def test_the_side_port_has_it_where_scrapers_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPROF_AGENT_HEAP", "0")
    server = pyprof_agent.serve(port=0)
    try:
        root = server.url.removesuffix("/debug/pprof/")
        paths = ("/debug/fgprof", "/debug/pprof/fgprof")
        with ThreadPoolExecutor(len(paths)) as pool:
            for body in pool.map(lambda path: get(f"{root}{path}?seconds=1"), paths):
                assert decode(body).duration_nanos > 0
    finally:
        server.stop()
