"""Where in the service the application is mounted, whatever the path that a proxy left of it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


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
