"""Who may come in: clients on the loopback interface, and nobody else."""

from __future__ import annotations

import ipaddress

from starlette.types import ASGIApp, Receive, Scope, Send

from pyprof_agent.http.answers import refusal


def is_loopback(scope: Scope) -> bool:
    """Whether the peer of an ASGI connection is this very machine.

    Judged from the connection's `client` and never from a header. A missing client, as on a
    Unix socket, is a stranger.
    """
    client = scope.get("client")
    if not client:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class LoopbackOnly:
    """ASGI application around another that turns strangers away before anything is collected."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_loopback(scope):
            response = refusal(403, "pprof endpoints answer clients on the loopback interface only")
            await response(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)
