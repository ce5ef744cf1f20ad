"""A service for the soak tests whose workers say which process they are."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import pyprof_agent


async def who(request: Request) -> PlainTextResponse:
    """The process, once it has made a profile."""
    profile = await pyprof_agent.current_agent().capture_async("wall")
    return PlainTextResponse(f"{os.getpid()} {profile.duration_nanos > 0}")


pyprof_agent.start(stack_engine="native", heap_engine="native", stack_hz=1000)
app = Starlette(routes=[Route("/who", who), Mount("/debug/pprof", pyprof_agent.make_asgi_app())])
