"""The agent: names to sources, captures, life cycle, fork. The composition root."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from pyprof_agent.config import Config
from pyprof_agent.engines import Source, heap_engine, stack_engine
from pyprof_agent.errors import ConfigError, NotRunningError, UnknownProfileError
from pyprof_agent.formats.pprof import address
from pyprof_agent.profile import Profile, rounded, subtract
from pyprof_agent.sources import stack_counters
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.tasks import ThreadsAndTasks

_LOG = logging.getLogger("pyprof_agent")
_P = ParamSpec("_P")
_T = TypeVar("_T")

ALIASES = {"cpu": "profile"}
"""Other names a profile can be asked for by."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a profile is made: a snapshot, and what turns counters of a window into it."""

    snapshot: Callable[[], Profile]
    finish: Callable[[Profile], Profile] = lambda profile: profile


class Agent:
    """Samples a process and makes profiles of it.

    Most programs have one, made by `pyprof_agent.start()`.

    config: the options; left out, the environment's. Raises ConfigError for what it cannot do.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else Config.load({})
        names = FrameNames()
        self._names = names
        depth = self.config.max_frames
        self._tasks = ThreadsAndTasks(names, max_frames=depth)
        self._sources: dict[str, Source] = {"threads": self._tasks}
        self._kinds: dict[str, _Kind] = {}
        self._fallbacks: dict[str, str] = {}
        if self.config.heap:
            heap, reason = heap_engine(self.config, names)
            if reason:
                self._fallbacks["heap"] = reason
            self._sources["heap"] = heap
            self._kinds["heap"] = _Kind(heap.snapshot)
            self._kinds["allocs"] = _Kind(heap.snapshot, _show_allocations)
        if self.config.stacks:
            stacks = stack_engine(self.config, names)
            self._sources["stacks"] = stacks
            self._kinds["profile"] = _Kind(stacks.snapshot, stack_counters.cpu_profile)
            self._kinds["wall"] = _Kind(stacks.snapshot, stack_counters.wall_profile)
        self._kinds["goroutine"] = _Kind(self._tasks.snapshot)
        self._kinds["threadcreate"] = _Kind(self._tasks.threads)
        self._new_locks()
        self._running = False
        self._worker: ThreadPoolExecutor | None = None

    def _new_locks(self) -> None:
        # Two, because to stop may take as long as a snapshot, and the event loop must not wait.
        self._life = threading.Lock()  # held by start and stop; taken before _lock
        self._lock = threading.Lock()  # guards _running and _worker; held for moments only

    @property
    def engines(self) -> dict[str, str]:
        """The engine in use for each of `heap` and `stacks`; `off` where it is switched off."""
        return {
            room: self._sources[room].name if room in self._sources else "off"
            for room in ("heap", "stacks")
        }

    @property
    def fallbacks(self) -> Mapping[str, str]:
        """Why the native engine of `heap` or `stacks` is not in use, where it was wished for."""
        return dict(self._fallbacks)

    @property
    def running(self) -> bool:
        """Whether the agent samples."""
        return self._running

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of the profiles it can make."""
        return tuple(self._kinds)

    def start(self) -> None:
        """Start sampling. Does nothing if it runs.

        Raises ConfigError in a subinterpreter: it could not end beside our thread.
        """
        if not in_main_interpreter():
            raise ConfigError(
                "the agent cannot run in a subinterpreter; start it in the main interpreter"
            )
        with self._life:
            if self._running:
                return
            try:
                for source in self._sources.values():
                    source.start()
            except BaseException:
                for source in self._sources.values():
                    source.stop()
                raise
            self._running = True
            _running_agents.add(self)
        _install_process_hooks()

    def stop(self) -> None:
        """Stop sampling. Does nothing if it does not run."""
        with self._life:
            with self._lock:
                if not self._running:
                    return
                self._running = False
                worker, self._worker = self._worker, None
            _running_agents.discard(self)
            if worker is not None:
                worker.shutdown(wait=False)
            for source in self._sources.values():
                source.stop()

    def stats(self) -> dict[str, dict[str, float]]:
        """Cost and losses of each source: `{"stacks": {"ticks": 1200, ...}, ...}`."""
        return {room: source.stats() for room, source in self._sources.items()}

    def begin(self, name: str) -> Window:
        """Open a window that begins now; its `end()` gives the profile.

        Raises UnknownProfileError, NotRunningError or CaptureError.
        """
        kind = self._kind(name)
        return Window(kind, kind.snapshot())

    def capture(self, name: str, seconds: float | None = None) -> Profile:
        """Make a profile.

        name: `heap`, `allocs`, `profile` (or `cpu`), `wall`, `goroutine`, `threadcreate`
        seconds: length of the window to wait for. None is all there is at once: what is
            alive or there now, and for `profile` and `wall` everything since the start.

        Raises UnknownProfileError for a name it does not know, NotRunningError before
        `start()`, CaptureError if collecting fails, ValueError if `seconds` is not positive.
        """
        if seconds is None:
            return self._since_start(name)
        _check_seconds(seconds)
        window = self.begin(name)
        time.sleep(seconds)
        return window.end()

    async def capture_async(self, name: str, seconds: float | None = None) -> Profile:
        """`capture` for an asyncio program: neither waiting nor collecting blocks the loop."""
        self._tasks.watch(asyncio.get_running_loop())
        if seconds is None:
            return await self.offload(self._since_start, name)
        _check_seconds(seconds)
        window = await self.offload(self.begin, name)
        await asyncio.sleep(seconds)
        return await self.offload(window.end)

    async def offload(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run a function in the agent's one worker thread.

        One, because two that compete for the GIL make the event loop wait for both; and its
        own, because the loop's default threads belong to the service.

        Raises NotRunningError before `start()`.
        """
        with self._lock:
            if not self._running:
                raise _not_running()
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="pyprof-agent-worker")
            future = self._worker.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    async def each_thread_and_task(self) -> Profile:
        """Every thread and asyncio task as a row of its own; see `ThreadsAndTasks.each`."""
        self._tasks.watch(asyncio.get_running_loop())
        return await self.offload(self._tasks.each)

    def symbols(self) -> Mapping[int, str]:
        """Function names by address, of every frame that was named so far."""
        return {address(frame): frame.function for frame in self._names.known()}

    def _since_start(self, name: str) -> Profile:
        kind = self._kind(name)
        return rounded(kind.finish(kind.snapshot()))

    def _kind(self, name: str) -> _Kind:
        kind = self._kinds.get(ALIASES.get(name, name))
        if kind is None:
            raise UnknownProfileError(
                f"unknown profile {name!r}; this agent has: {', '.join(self._kinds)}"
            )
        if not self._running:
            raise _not_running()
        return kind

    def _before_fork(self) -> None:
        for source in self._sources.values():
            source.before_fork()

    def _after_fork(self, *, child: bool) -> None:
        if child:
            # Whoever held the locks, and the worker's thread, are not in this process.
            self._new_locks()
            self._worker = None
        for source in self._sources.values():
            source.after_fork(child=child)


class Window:
    """A stretch of time that a profile is made of; from `Agent.begin`."""

    def __init__(self, kind: _Kind, earlier: Profile) -> None:
        self._kind = kind
        self._earlier = earlier

    def end(self) -> Profile:
        """The profile from the beginning of the window to now. May be called again.

        Raises NotRunningError or CaptureError.
        """
        later = self._kind.snapshot()
        return rounded(self._kind.finish(subtract(later, self._earlier)))


def in_main_interpreter() -> bool:
    """Whether this is the main interpreter of the process, and not a subinterpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # from 3.13 on; before
        with contextlib.suppress(ImportError):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
    return True


def _show_allocations(profile: Profile) -> Profile:
    return replace(profile, default_sample_type="alloc_space")


def _check_seconds(seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"seconds is {seconds!r}; use a positive number")


def _not_running() -> NotRunningError:
    return NotRunningError("the agent is not running; call pyprof_agent.start() first")


_running_agents: set[Agent] = set()
_forking: dict[int, tuple[Agent, ...]] = {}  # by the thread that forks
_hooks_lock = threading.Lock()
_hooks_installed = False


def _install_process_hooks() -> None:
    global _hooks_installed
    with _hooks_lock:
        if _hooks_installed:
            return
        _hooks_installed = True
    atexit.register(_stop_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=lambda: _after_fork(child=False),
            after_in_child=lambda: _after_fork(child=True),
        )


def _before_fork() -> None:
    # The very same agents go on afterwards, whoever starts or stops one meanwhile.
    _forking[threading.get_ident()] = tuple(_running_agents)
    for agent in _forking[threading.get_ident()]:
        with _follow_fork():
            agent._before_fork()


def _after_fork(*, child: bool) -> None:
    global _hooks_lock
    agents = _forking.pop(threading.get_ident(), ())
    if child:
        _hooks_lock = threading.Lock()
        _forking.clear()
    for agent in agents:
        with _follow_fork():
            agent._after_fork(child=child)


@contextlib.contextmanager
def _follow_fork() -> Iterator[None]:
    try:
        yield
    except Exception:
        _LOG.exception("the profiler could not follow a fork; the program goes on without")


def _stop_all() -> None:
    for agent in tuple(_running_agents):
        agent.stop()
