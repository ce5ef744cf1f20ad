"""The door: strangers and pages of other sites are turned away before anything is collected."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from pyprof_agent.access import Refusal, Rule
from pyprof_agent.access.request import header
from pyprof_agent.http.answers import refusal

OTHER_SITE = (
    "a page of another site may not ask for this; type the address into the browser, or use curl"
)


class Guard:
    """ASGI application around another that lets in whom the rule lets in."""

    def __init__(self, app: ASGIApp, rule: Rule) -> None:
        self._app = app
        self._rule = rule

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        refused = None
        if scope["type"] == "http":
            refused = from_other_site(scope) or await self._rule.check(scope)
        if refused is None:
            await self._app(scope, receive, send)
            return
        response = refusal(refused.status, refused.message)
        for challenge in refused.challenges:  # a field each: not all clients split a list of them
            response.headers.append("WWW-Authenticate", challenge)
        await response(scope, receive, send)


def from_other_site(scope: Scope) -> Refusal | None:
    """Refuses what a browser sends for a page of another site, whatever the rule.

    Such a page cannot read the answer, but could have garbage collected and profiles made. Go's
    CrossOriginProtection judges alike, except that it lets every GET in.
    """
    sites = header(scope, b"sec-fetch-site")
    if sites:
        allowed = all(site in (b"same-origin", b"none") for site in sites)
    else:  # no browser, or one on plain HTTP, where there is only this
        hosts = header(scope, b"host")
        allowed = all(
            [origin.lower().partition(b"://")[2]] == [host.lower() for host in hosts]
            for origin in header(scope, b"origin")
        )
    return None if allowed else Refusal(403, OTHER_SITE)
