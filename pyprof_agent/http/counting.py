"""Counts requests, so that a leak is known in bytes a request."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from pyprof_agent.http.mounting import PREFIX


class CountingApp:
    """ASGI application around another that counts its requests; those for profiles are no work.

    count: is called once for each
    """

    def __init__(self, app: ASGIApp, count: Callable[[], None]) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and PREFIX not in scope["path"]:
            self._count()
        await self._app(scope, receive, send)
