"""A server of its own for programs that are not ASGI: uvicorn in a daemon thread."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import socket
import threading
import time
from functools import partial

import uvicorn
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from pyprof_agent import forks
from pyprof_agent.collector import kept_off
from pyprof_agent.errors import ServeError
from pyprof_agent.http.mounting import PREFIX, OnlyFgprof
from pyprof_agent.http.own_loop import own_loop
from pyprof_agent.http.tls import Certificates
from pyprof_agent.own_process import SERVER_THREAD, forget
from pyprof_agent.pauses import pause

FGPROF = "/debug/fgprof"
START_SECONDS = 10.0
STOP_SECONDS = 2.0


class Server:
    """Serves an application below `/debug/pprof/` until `stop()` or the end of the process.

    host: address to listen on, IPv4 or IPv6
    port: 0 lets the system choose
    certificates: for HTTPS; None is HTTP

    A forked child does not serve: it closes its copy of the socket.

    Raises ServeError if the address cannot be listened on, or a certificate not be used.
    """

    def __init__(
        self, app: ASGIApp, host: str, port: int, certificates: Certificates | None = None
    ) -> None:
        tls = None if certificates is None else certificates.context()
        self._socket = _listen(host, port)
        bound_host, self.port = self._socket.getsockname()[:2]
        # Who listens everywhere is reached here by the name that the loopback rule knows.
        reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound_host, bound_host)
        shown = f"[{reached}]" if ":" in reached else reached
        self.url = f"http{'s' if tls else ''}://{shown}:{self.port}{PREFIX}/"
        routes = [Mount(PREFIX, app), Route(FGPROF, OnlyFgprof(app)), Route("/", _to_index)]
        config = uvicorn.Config(
            Starlette(routes=routes),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,  # logging is the program's
            access_log=False,
            proxy_headers=False,  # who the client is, is nothing a header may say
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.ssl = tls  # made by us, as uvicorn would ask for the password of a key
        self._server = uvicorn.Server(config)
        thread = threading.Thread(target=self._run, name=SERVER_THREAD, daemon=True)
        # All that it calls: `threading` has code of its own at both ends.
        function, args = kept_off(thread._bootstrap)  # type: ignore[attr-defined]
        thread._bootstrap = partial(function, *args)  # type: ignore[attr-defined]
        self._thread = thread
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started and self._thread.is_alive():
            if time.monotonic() > deadline:
                break
            pause(0.005)
        if not self._server.started:
            self.stop()
            raise ServeError(f"the server on {self.url} did not start; its log says why")
        _servers.add(self)
        _install_hooks()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=own_loop) as runner:
            runner.run(self._server.serve(sockets=[self._socket]))

    def stop(self) -> None:
        """Stop serving; a capture under way is given a second. Does nothing if stopped."""
        self._server.should_exit = True
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_SECONDS)
        self._socket.close()
        _servers.discard(self)

    def _close_in_child(self) -> None:
        forget(self._thread)
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:  # the C library would take it modulo 65536
        raise ServeError(f"cannot listen on {host!r} port {port!r}; use a port from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError(f"cannot listen on {host!r} port {port!r}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ServeError(
            f"cannot listen on {host!r} port {port!r}: {error}; "
            "choose another port, or port=0 for any free one"
        ) from error
    return listener


async def _to_index(request: object) -> RedirectResponse:
    return RedirectResponse(f"{PREFIX}/")


_servers: set[Server] = set()  # not weak: who drops the result of serve() still serves
_hooks_installed = False


def _install_hooks() -> None:
    global _hooks_installed
    if not _hooks_installed:
        _hooks_installed = True
        atexit.register(_stop_all)
        forks.in_child(_close_all_in_child)


def _stop_all() -> None:
    for server in tuple(_servers):
        with contextlib.suppress(Exception):
            server.stop()


def _close_all_in_child() -> None:
    for server in tuple(_servers):
        server._close_in_child()
    _servers.clear()
