"""The debug endpoints as an ASGI application: routes, and what each answers.

Paths, parameters, headers and errors are those of Go's net/http/pprof.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import ParamSpec, Protocol, TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from pyprof_agent.access import Rule
from pyprof_agent.config import Limits
from pyprof_agent.errors import CaptureError, NotRunningError, UnknownProfileError
from pyprof_agent.formats import text
from pyprof_agent.http import answers, index, leaks, window
from pyprof_agent.http.access import Guard
from pyprof_agent.http.limits import Captures, Garbage, TooManyError
from pyprof_agent.http.mounting import WholePath, query_of, url_of
from pyprof_agent.http.renderings import PARAMETERS, Rendering, rendering
from pyprof_agent.http.sharing import Shared
from pyprof_agent.http.shutdown import ServerEnd
from pyprof_agent.leaks.report import LeakReport
from pyprof_agent.own_process import in_server
from pyprof_agent.profile import Profile

_LOG = logging.getLogger("pyprof_agent")
_P = ParamSpec("_P")
_T = TypeVar("_T")

WINDOWED = ("profile", "wall", "cpu", "fgprof")
"""Profiles that are always of a window; the others are snapshots unless `seconds` is given."""

LOOKS_BACK = (*WINDOWED, "heap", "allocs")
"""Profiles that can be of the time that has just ended."""

DELTAS = ("delta_heap", "delta_block", "delta_mutex")
"""Profiles of the time since they were last asked for, whoever did."""

MAX_SYMBOL_BYTES = 1 << 22
"""pprof asks for all addresses of a profile at once: 200,000 are 4 MB."""

NO_ASYNCIO = (
    "these endpoints need an asyncio event loop, and this server runs another one (trio?); "
    "pyprof_agent.serve() has a port and a loop of its own"
)

NO_GARBAGE_HERE = (
    "gc=1 is not served by this port: its thread is the agent's, and finalizers of the program "
    "must not run there; leave it out, and let the program call gc.collect()"
)


class Backend(Protocol):
    """What the application needs of the agent."""

    @property
    def profiles(self) -> tuple[str, ...]: ...
    def knows(self, name: str) -> bool: ...
    @property
    def engines(self) -> Mapping[str, str]: ...
    @property
    def fallbacks(self) -> Mapping[str, str]: ...
    def sample_types(self, name: str) -> tuple[str, ...]: ...
    def stats(self) -> Mapping[str, Mapping[str, float]]: ...
    def symbols(self) -> Mapping[int, str]: ...
    def leaks(self) -> LeakReport: ...
    async def capture_async(
        self, name: str, seconds: float | None = None, *, last: float | None = None
    ) -> Profile: ...
    async def each_thread_and_task(self) -> Profile: ...
    async def offload(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T: ...


def make_app(
    backend: Callable[[], Backend], *, cmdline: bool, access: Rule, limits: Limits
) -> ASGIApp:
    """The application.

    backend: gives the agent of the moment; it may raise NotRunningError
    cmdline: serve the command line
    access: who may come in
    limits: how much is served
    """
    endpoints = _Endpoints(backend, cmdline, limits)
    # A router without routes answers the lifespan of a server that runs us alone. With some it
    # would have answers of its own: its redirects, its 404, and failures at bytes it cannot read.
    return Guard(WholePath(Router(redirect_slashes=False, default=endpoints)), access)


class _Endpoints:
    def __init__(self, backend: Callable[[], Backend], cmdline: bool, limits: Limits) -> None:
        self._backend = backend
        self._cmdline = cmdline
        self._longest = limits.max_seconds
        self._captures = Captures(limits.max_captures)
        self._garbage = Garbage()
        self._server_end = ServerEnd()
        self._shared: Shared[bytes] = Shared()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(Request(scope, receive))
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return answers.refusal(501, NO_ASYNCIO)
        path: str = request.scope["path"]
        name = path.removeprefix(request.scope["root_path"]).strip("/")
        allowed = ("GET", "HEAD", "POST") if name == "symbol" else ("GET", "HEAD")
        if request.method not in allowed:
            return answers.refusal(405, "Method Not Allowed", {"Allow": ", ".join(allowed)})
        try:
            response = await self._route(name, request)
        except ClientDisconnect:
            return answers.refusal(400, "the request ended in its middle")
        except window.BadParameterError as error:
            return answers.refusal(400, str(error))
        except UnknownProfileError:
            return answers.refusal(404, "Unknown profile")
        except TooManyError as error:
            return answers.refusal(429, str(error), {"Retry-After": str(error.retry_after)})
        except (NotRunningError, window.EndingError) as error:
            return answers.refusal(503, str(error))
        except CaptureError as error:
            return answers.refusal(500, f"failed to collect profile: {error}")
        except Exception:
            _LOG.exception("answering %r failed", path)
            return answers.refusal(500, "failed to collect profile; the service's log says why")
        if request.method == "HEAD" and "content-length" in response.headers:
            del response.headers["content-length"]  # of the body that was not made
        return response

    async def _route(self, name: str, request: Request) -> Response:
        if name == "":
            return await self._index(request)
        if name == "cmdline":
            return self._command_line()
        if name == "symbol":
            return await self._symbol(request)
        backend = self._backend()
        if name == "leaks":
            return await self._leaks(backend, request)
        if not backend.knows(name):
            raise UnknownProfileError(name)
        params = window.parameters(query_of(request.scope))
        wanted = rendering(params, request.headers, name, backend.sample_types(name))
        last = window.last_seconds(params, supported=name in LOOKS_BACK)
        if name in WINDOWED:
            if last is not None:
                return await self._past(backend, name, name, last, wanted, request)
            seconds = window.profile_seconds(params, self._longest)
            return await self._window(backend, name, name, seconds, wanted, request)
        return await self._snapshot(backend, name, params, last, wanted, request)

    async def _window(
        self,
        backend: Backend,
        name: str,
        filename: str,
        seconds: int,
        wanted: Rendering,
        request: Request,
    ) -> Response:
        if request.method == "HEAD":
            return wanted.answer(b"", filename)

        async def collect() -> bytes:
            profile = await backend.capture_async(name, seconds)
            return await backend.offload(wanted.encode, profile)

        with self._captures.hold(seconds):
            content = await window.until_gone(request.receive, collect(), self._server_end.near())
        return wanted.answer(content or b"", filename)

    async def _past(
        self,
        backend: Backend,
        name: str,
        filename: str,
        last: int,
        wanted: Rendering,
        request: Request,
    ) -> Response:
        content = b""
        if request.method != "HEAD":
            with self._captures.hold(1):
                try:
                    profile = await backend.capture_async(name, last=last)
                except ValueError as error:
                    raise window.BadParameterError(str(error)) from None
                content = await backend.offload(wanted.encode, profile)
        return wanted.answer(content, filename)

    async def _snapshot(
        self,
        backend: Backend,
        name: str,
        params: QueryParams,
        last: int | None,
        wanted: Rendering,
        request: Request,
    ) -> Response:
        seconds = window.delta_seconds(params, self._longest, supported=name not in DELTAS)
        if seconds is not None:
            return await self._window(backend, name, f"{name}-delta", seconds, wanted, request)
        collect_garbage = name in ("heap", "delta_heap") and window.flag(params, "gc") > 0
        if collect_garbage and in_server():
            raise window.BadParameterError(NO_GARBAGE_HERE)
        # What is answered alike is shared, whatever the number.
        debug = max(-1, min(window.flag(params, "debug"), 2))
        if debug:
            window.refuse_with_debug(params, ("last", *PARAMETERS))
        if last is not None:
            return await self._past(backend, name, f"{name}-delta", last, wanted, request)

        async def collect() -> bytes:
            if collect_garbage:
                gc.collect()  # here: finalizers are the program's, and so is this thread
            if name == "goroutine" and debug >= 2:
                return await backend.offload(text.dump, await backend.each_thread_and_task())
            profile = await backend.capture_async(name)
            if not debug:
                return await backend.offload(wanted.encode, profile)
            if name in ("heap", "allocs", "delta_heap"):
                return await backend.offload(text.heap, profile)
            if name.removeprefix("delta_") in ("block", "mutex"):
                return await backend.offload(text.contention, name, profile)
            return await backend.offload(text.count, name, profile)

        content = b""
        if request.method != "HEAD":
            if collect_garbage:
                self._garbage.collect()
            if name in DELTAS:  # whose answers are not shared: no two have the same in them
                with self._captures.hold(1):
                    content = await collect()
            else:
                key = (name, debug, collect_garbage, wanted)
                content = await self._shared.run(key, collect)
        return answers.text(content) if debug else wanted.answer(content, name)

    async def _index(self, request: Request) -> Response:
        path: str = request.scope["path"]
        if not path.endswith("/"):
            # Relative, so that it is right behind a proxy that strips a prefix.
            return RedirectResponse(path.rsplit("/", 1)[-1] + "/")
        backend = self._backend()
        stats = await backend.offload(backend.stats)
        return answers.html(
            index.page(
                url=url_of(request.scope),
                profiles=backend.profiles,
                windowed=WINDOWED,
                engines=backend.engines,
                fallbacks=backend.fallbacks,
                stats=stats,
                cmdline=self._cmdline,
            )
        )

    async def _leaks(self, backend: Backend, request: Request) -> Response:
        params = window.parameters(query_of(request.scope))
        wanted = leaks.wanted(params, request.headers)
        url = url_of(request.scope).rstrip("/").removesuffix("leaks")

        def encode() -> bytes:
            return leaks.encode(backend.leaks(), wanted, url)

        async def collect() -> bytes:
            return await backend.offload(encode)

        content = b""
        if request.method != "HEAD":
            try:
                content = await self._shared.run(("leaks", wanted, url), collect)
            except NotRunningError:
                raise
            except CaptureError as error:
                return answers.refusal(404, str(error))
        return leaks.answer(content, wanted)

    def _command_line(self) -> Response:
        if not self._cmdline:
            return answers.refusal(
                404,
                "cmdline is off, as arguments may hold secrets; "
                "make_asgi_app(cmdline=True) switches it on",
            )
        return answers.text(os.fsencode("\0".join([sys.executable, *sys.orig_argv[1:]])))

    async def _symbol(self, request: Request) -> Response:
        if request.method == "POST":
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_SYMBOL_BYTES:
                    return answers.refusal(413, f"more than {MAX_SYMBOL_BYTES} bytes of addresses")
            query = body.decode("ascii", "replace")
        else:
            query = query_of(request.scope)
        backend = self._backend()

        def answer() -> bytes:
            return text.symbols(query, backend.symbols())

        return answers.text(await backend.offload(answer))
