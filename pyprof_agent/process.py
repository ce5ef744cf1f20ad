"""The one agent of this process, and the few functions that most programs need."""

from __future__ import annotations

import logging
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pyprof_agent import forks
from pyprof_agent.access import Decision, Rule
from pyprof_agent.access.environment import configured
from pyprof_agent.access.rules import Everybody, as_rule
from pyprof_agent.agent import ALIASES, Agent
from pyprof_agent.config import AccessSettings, Config, Limits
from pyprof_agent.errors import ConfigError, NotRunningError, UnknownProfileError
from pyprof_agent.profile import Profile

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from pyprof_agent.http.server import Server

RECORDING = {"stack_hz": 100.0, "heap_sample_bytes": 8192}
"""Options of an agent that `record` starts for a block, where the environment has no others: a
block is short."""

RECORDABLE = ("profile", "wall", "heap", "allocs")

_LOG = logging.getLogger("pyprof_agent")
_agent: Agent | None = None  # set with `forks.life()` held


def start(**options: Any) -> Agent:
    """Start the agent of this process and return it. If it runs, it is returned as it is.

    options: the fields of `Config`; what is not given comes from the environment

    Raises ConfigError for an unknown option or a value that cannot be used.
    """
    global _agent
    config = Config.load(options)
    with forks.life():
        if _agent is not None and _agent.running:
            if options and config != _agent.config:
                _LOG.warning(
                    "start(%s) changes nothing: the agent runs already, with %s; stop() it first",
                    ", ".join(f"{name}={value!r}" for name, value in options.items()),
                    _agent.config,
                )
            return _agent
        agent = Agent(config)
        agent.start()
        _agent = agent
        return agent


def stop() -> None:
    """Stop the agent of this process. Does nothing if it does not run."""
    global _agent
    with forks.life():
        if _agent is not None:
            _agent.stop()
            _agent = None


def current_agent() -> Agent:
    """The running agent of this process.

    Raises NotRunningError if there is none.
    """
    agent = _agent
    if agent is None or not agent.running:
        raise NotRunningError("the agent is not running; call pyprof_agent.start() first")
    return agent


def make_asgi_app(
    agent: Agent | None = None,
    *,
    cmdline: bool = False,
    access: Rule | Decision | None = None,
    max_seconds: int | None = None,
    max_captures: int | None = None,
) -> ASGIApp:
    """The debug endpoints as an ASGI application, to be mounted at `/debug/pprof`.

    agent: which to serve; None is the process's own, looked up at each request
    cmdline: serve `cmdline`, which may show secrets that were given as arguments
    access: who may come in: a rule of `pyprof_agent.access`, or a function, sync or async, that
        is given the ASGI scope and returns True or False. None takes what the environment says,
        and without that clients on the loopback interface only.
    max_seconds: longest window. None is what the environment says, and without that 300.
    max_captures: windows at once. None is what the environment says, and without that 8.

    Raises ConfigError for an access or a limit that cannot be used.
    """
    from pyprof_agent.http.app import make_app

    rule = configured(AccessSettings.load()) if access is None else as_rule(access)
    limits = Limits.load({"max_seconds": max_seconds, "max_captures": max_captures})
    backend = current_agent if agent is None else lambda: agent
    return make_app(backend, cmdline=cmdline, access=rule, limits=limits)


def make_fgprof_app(
    agent: Agent | None = None,
    *,
    access: Rule | Decision | None = None,
    max_seconds: int | None = None,
    max_captures: int | None = None,
) -> ASGIApp:
    """The wall profile as an ASGI application of its own, to be routed at `/debug/fgprof`.

    That is where scrapers look for it that know Go's package fgprof. `make_asgi_app` has it as
    `fgprof` and as `wall` too; limits are counted apart.

    agent, access, max_seconds, max_captures: as for `make_asgi_app`

    Raises ConfigError for an access or a limit that cannot be used.
    """
    from pyprof_agent.http.mounting import OnlyFgprof

    return OnlyFgprof(
        make_asgi_app(agent, access=access, max_seconds=max_seconds, max_captures=max_captures)
    )


def count(units: int = 1) -> None:
    """`Agent.count` of this process's agent. Does nothing if none runs."""
    agent = _agent
    if agent is not None:
        agent.count(units)


def count_requests(app: ASGIApp) -> ASGIApp:
    """The ASGI application `app`, with `count()` called for each of its requests.

    As a middleware: `app.add_middleware(count_requests)`.
    """
    from pyprof_agent.http.counting import CountingApp

    return CountingApp(app, count)


def serve(
    port: int = 6060,
    host: str = "127.0.0.1",
    *,
    cmdline: bool = False,
    access: Rule | Decision | None = None,
    max_seconds: int | None = None,
    max_captures: int | None = None,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    client_ca: str | os.PathLike[str] | None = None,
) -> Server:
    """Serve `/debug/pprof/` on a port of its own, from a daemon thread; starts the agent.

    For Flask, Django and whatever else is not ASGI.

    port: 0 lets the system choose; see `Server.url`
    host: address to listen on. Whatever it is, `access` says who is answered.
    cmdline, access, max_seconds, max_captures: as for `make_asgi_app`
    certfile, keyfile: the port's certificate and its key, PEM files, for HTTPS; the key may be
        in `certfile`. It must have no password.
    client_ca: PEM file with the authorities that clients must have a certificate of; without one
        they get no connection. Where neither `access` nor the environment says who else is
        refused, nobody is.

    Raises ServeError if the port cannot be had or a file not be used, and ConfigError for an
    option or a variable that cannot be used.
    """
    from pyprof_agent.http.server import Server
    from pyprof_agent.http.tls import Certificates

    certificates = None
    if certfile is not None:
        certificates = Certificates(certfile, keyfile, client_ca)
    elif keyfile is not None or client_ca is not None:
        name = "client_ca" if keyfile is None else "keyfile"
        raise ConfigError(f"{name} needs certfile, the certificate of the port")
    if client_ca is not None and access is None:
        # Whoever gets as far as a request has shown a certificate.
        access = configured(AccessSettings.load(), otherwise=Everybody())
    app = make_asgi_app(
        cmdline=cmdline, access=access, max_seconds=max_seconds, max_captures=max_captures
    )
    was_running = _agent is not None and _agent.running
    start()
    try:
        return Server(app, host, port, certificates)
    except BaseException:
        if not was_running:
            stop()
        raise


class record:  # noqa: N801, a context manager reads like a function
    """Profile a block of code: `with record("slow.pb.gz"): ...`.

    Uses the process's agent if it runs; otherwise one is started for the block, which looks
    at stacks up to 100 times a second, and samples an allocation in 8192 bytes.

    path: where the profile is written at the end of the block, also if that raises; None
        writes nothing
    name: `profile` (or `cpu`), `wall`, `heap` or `allocs`; of the heap it is the growth

    The profile itself is in `profile` once the block has ended.

    Raises UnknownProfileError for another name, or if the agent that runs does not have that
    profile; CaptureError; OSError if the file cannot be written.
    """

    profile: Profile

    def __init__(self, path: str | os.PathLike[str] | None = None, name: str = "profile") -> None:
        self._path = path
        self._name = ALIASES.get(name, name)
        if self._name not in RECORDABLE:
            raise UnknownProfileError(
                f"a block has no profile {name!r}; record one of: cpu, {', '.join(RECORDABLE)}"
            )
        self._own: Agent | None = None

    def __enter__(self) -> record:
        try:
            agent = current_agent()
        except NotRunningError:
            heap = self._name in ("heap", "allocs")
            only = {"heap": heap, "stacks": not heap, "leak_window": 0, "profile_dir": None}
            config = Config.load(only, defaults=RECORDING)
            agent = self._own = Agent(config)
            agent.start()
        try:
            self._window = agent.begin(self._name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.profile = self._window.end()
        finally:
            self._stop()
        if self._path is not None:
            self.profile.write(self._path)

    def _stop(self) -> None:
        if self._own is not None:
            self._own.stop()
