"""Where in the service the application is mounted, whatever the path that a proxy left of it."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/debug/pprof"
"""Where it is mounted, as everywhere in Go; a service may have it elsewhere."""

_HOST = re.compile(rb"[\w.:\[\]-]+", re.ASCII)


class WholePath:
    """ASGI application around another that sees every path below its root_path.

    ASGI has `path` begin with `root_path`. Behind a proxy that strips a prefix, which the service
    is told of as `FastAPI(root_path="/api")`, it does not: `/debug/pprof/heap` comes with
    `/api/debug/pprof`. Starlette finds the mount all the same, but below it nothing any more.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = scope.get("root_path", "").rstrip("/")
            scope = {**scope, "root_path": root, "path": whole_path(scope["path"], root)}
        await self._app(scope, receive, send)


class OnlyFgprof:
    """ASGI application around ours that answers `fgprof`, whatever the path is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": "", "path": "/fgprof", "raw_path": b"/fgprof"}
        await self._app(scope, receive, send)


def query_of(scope: Scope) -> str:
    """The query as it came. Starlette's `Request.url` fails for bytes that are no UTF-8."""
    return bytes(scope.get("query_string", b"")).decode("latin-1")


def url_of(scope: Scope) -> str:
    """The address that was asked for, without its query, whatever the Host header says."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    if not _HOST.fullmatch(host):  # `Request.url` fails for `[`
        name, port = scope.get("server") or ("localhost", None)
        host = f"{name}:{port}".encode() if port else name.encode()
    return f"{scope.get('scheme', 'http')}://{host.decode()}{scope['path']}"


def whole_path(path: str, root: str) -> str:
    """The path as the client asked for it, below `root`.

    path: with all of `root` before it, with only the last parts of it, or with none
    root: without a slash at its end
    """
    if _is_below(path, root):
        return path
    for start, letter in enumerate(root):
        if letter == "/" and _is_below(path, root[start:]):
            return root[:start] + path
    return root + path


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")
