"""Requests are counted as work, whatever framework the middleware is given to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

import pyprof_agent
from pyprof_agent import Agent, count_requests, make_asgi_app, start, stop
from pyprof_agent.leaks.work import units


@pytest.fixture
def agent() -> Iterator[Agent]:
    yield start(stacks=False)
    stop()


def counted(agent: Agent) -> int | None:
    return units(agent.capture("heap").comments)


def hello(request: object) -> PlainTextResponse:
    return PlainTextResponse("hello")


def starlette_service() -> ASGIApp:
    debug = Mount("/debug/pprof", make_asgi_app())
    service = Starlette(routes=[Route("/", hello), debug])
    service.add_middleware(count_requests)
    return service


def fastapi_service() -> ASGIApp:
    service = FastAPI()
    service.add_api_route("/", lambda: "hello")
    service.mount("/debug/pprof", make_asgi_app())
    service.add_middleware(count_requests)
    return service


def wrapped_service() -> ASGIApp:
    debug = Mount("/debug/pprof", make_asgi_app())
    return count_requests(Starlette(routes=[Route("/", hello), debug]))


@pytest.mark.parametrize("make", [starlette_service, fastapi_service, wrapped_service])
def test_each_request_is_a_unit_of_work_but_for_those_of_profiles(
    make: object, agent: Agent
) -> None:
    assert callable(make)
    client = TestClient(make(), client=("127.0.0.1", 1))
    assert counted(agent) is None
    for path in ("/", "/nowhere", "/", "/debug/pprof/", "/debug/pprof/cmdline"):
        client.get(path)
    assert counted(agent) == 3


def test_what_is_no_request_is_handed_on_and_not_counted(agent: Agent) -> None:
    kinds = []

    async def service(scope: Scope, receive: Receive, send: Send) -> None:
        kinds.append(scope["type"])

    async def never() -> dict[str, object]:
        raise AssertionError

    async def nowhere(message: object) -> None:
        raise AssertionError

    async def connect(kind: str) -> None:
        await count_requests(service)({"type": kind, "path": "/"}, never, nowhere)

    for kind in ("lifespan", "websocket"):
        asyncio.run(connect(kind))
    assert kinds == ["lifespan", "websocket"]
    assert counted(agent) is None


def test_without_an_agent_requests_are_served() -> None:
    stop()
    service = count_requests(Starlette(routes=[Route("/", hello)]))
    assert TestClient(service).get("/").text == "hello"
    pyprof_agent.count()
