"""The agent: names to sources, captures, life cycle, fork. The composition root."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import ParamSpec, TypeVar

from pyprof_agent import forks, own_process
from pyprof_agent.batches import gently
from pyprof_agent.config import Config
from pyprof_agent.engines import HeapSource, Source, frames_of, heap_engine, stack_engine
from pyprof_agent.errors import (
    CaptureError,
    ConfigError,
    NotRunningError,
    UnknownProfileError,
)
from pyprof_agent.files import files_of
from pyprof_agent.formats.pprof import address
from pyprof_agent.leaks.report import LeakReport
from pyprof_agent.leaks.work import WorkCounter
from pyprof_agent.profile import Profile, changed, rounded
from pyprof_agent.sources import contention, heap_tracemalloc, tasks
from pyprof_agent.sources.heap_delta import HeapDelta
from pyprof_agent.sources.markers import MARKERS
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.tasks import ThreadsAndTasks
from pyprof_agent.thread_names import ThreadNames
from pyprof_agent.watch import LeakWatch, watch_of
from pyprof_agent.windows import Kind, Window, check_last, check_seconds, look_back, stack_kinds
from pyprof_agent.worker import Chore, Worker

_P = ParamSpec("_P")
_T = TypeVar("_T")

ALIASES = {
    "cpu": "profile",
    "fgprof": "wall",  # the name of a Go package that profiles elapsed time, and of its path
    "delta_block": "block",  # of nothing, what came since the last time is nothing
    "delta_mutex": "mutex",
}
"""Other names a profile can be asked for by."""


# Found out here and not at each start: a fork beside a thread that imports leaves that import's
# lock held in the child for ever. So nothing that may run beside a fork imports.
_IN_MAIN_INTERPRETER = own_process.in_main_interpreter()


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
        self._kinds: dict[str, Kind] = {}
        self._fallbacks: dict[str, str] = {}
        self._heap: HeapSource | None = None
        self._chores: list[Chore] = []
        self._started = 0.0  # by the monotonic clock
        self._work = WorkCounter()
        self._delta: HeapDelta | None = None
        self.watch: LeakWatch | None = None  # None where it is off
        self._files = files_of(self.config, partial(self._since_start, "heap"))
        if self.config.heap:
            heap, reason = heap_engine(self.config, names)
            self._heap = heap
            if reason:
                self._fallbacks["heap"] = reason
            self._sources["heap"] = heap
            types = heap_tracemalloc.SAMPLE_TYPES
            self._kinds["heap"] = Kind(
                heap, types, heap.snapshot, self._work.tell, heap.window, heap.past
            )
            self._kinds["allocs"] = replace(self._kinds["heap"], finish=_show_allocations)
            self._delta = HeapDelta(heap)
            self._kinds["delta_heap"] = Kind(heap, types, self._delta.snapshot, has_windows=False)
            self.watch = watch_of(self.config, heap, self._work.tell)
        if self.config.stacks:
            stacks, reason = stack_engine(self.config, names)
            if reason:
                self._fallbacks["stacks"] = reason
            self._sources["stacks"] = stacks
            self._kinds.update(stack_kinds(stacks))
            if stacks.newcomers is not None:
                self._chores.append(ThreadNames(stacks.newcomers, stacks.look_up_names))
        looks = {"goroutine": self._tasks.snapshot, "threadcreate": self._tasks.threads}
        for name, look in looks.items():
            self._kinds[name] = Kind(self._tasks, tasks.SAMPLE_TYPES[name], look)
        for name in ("block", "mutex"):
            self._kinds[name] = Kind(self._tasks, contention.SAMPLE_TYPES, contention.snapshot)
        self._chores += [each for each in (self.watch, self._files) if each is not None]
        self._worker: Worker | None = None  # there while the agent runs

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
        return self._worker is not None and not forks.notice()

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of the profiles it can make."""
        return tuple(self._kinds)

    def sample_types(self, name: str) -> tuple[str, ...]:
        """Names of the columns a profile has, without making it.

        Raises UnknownProfileError for a name it does not know.
        """
        return tuple([value_type.type for value_type in self._known(name).sample_types])

    def knows(self, name: str) -> bool:
        """Whether it can make a profile of that name, which may be another name for one."""
        return ALIASES.get(name, name) in self._kinds

    def start(self) -> None:
        """Start sampling. Does nothing if it runs.

        Raises ConfigError in a subinterpreter: it could not end beside our thread, and
        NotRunningError in a child that C code has forked where `forks.notice` says why.
        """
        if not _IN_MAIN_INTERPRETER:
            raise ConfigError(
                "the agent cannot run in a subinterpreter; start it in the main interpreter"
            )
        with forks.life():
            if self.running:
                return
            if lost := forks.notice():
                raise NotRunningError(lost)
            forks.follow(self)
            worker = Worker(self._chores)
            try:
                for source in self._sources.values():
                    source.start()
                worker.start()
            except BaseException:
                for source in self._sources.values():
                    source.stop()
                forks.forget(self)
                raise
            self._started = time.monotonic()
            self._worker = worker

    def stop(self) -> None:
        """Stop sampling. Does nothing if it does not run."""
        with forks.life():
            worker, self._worker = self._worker, None
            if worker is None or forks.notice():  # there is nothing to end, and nobody to wait for
                return
            worker.end()
            for source in self._sources.values():
                source.stop()
            forks.forget(self)

    def count(self, units: int = 1) -> None:
        """Say that so much work is done: requests, messages, whatever memory should not grow by.

        Heap profiles tell the sum, from which `pyprof-agent gate` knows the growth for each unit.

        Raises ValueError for less than 0.
        """
        if units < 0:
            raise ValueError(f"units is {units!r}; use 0 or more")
        self._work.add(units)

    def stats(self) -> dict[str, Mapping[str, float]]:
        """Cost and losses of each source, work counted so far, and facts of the process.

        `{"stacks": {"ticks": 1200, ...}, ..., "process": {...}}`; of the process, as far as they
        are known, `resident_bytes`, `heap_bytes` (in use, as the heap engine sees it), `seconds`
        (since its start) and `agent_seconds` (since that of the agent).
        """
        lost = forks.notice()
        seconds = {"agent_seconds": time.monotonic() - self._started} if self.running else {}
        heap = {"heap_bytes": self._heap.in_use_bytes()} if self._heap is not None else {}
        process = {**own_process.facts(), **heap, **seconds}
        threads = {} if lost else self._tasks.stats()
        return {"threads": threads, **self.costs(), "process": process}

    def costs(self) -> dict[str, Mapping[str, float]]:
        """Of `stats()` what takes no more than some microseconds: all but threads and process."""
        sources = {"heap": self._heap, "stacks": self._sources.get("stacks"), "names": self._names}
        rooms = {**sources, "leaks": self.watch, "files": self._files, "work": self._work}
        return {room: part.stats() for room, part in rooms.items() if part is not None}

    def leaks(self) -> LeakReport:
        """What the watch knows: whether memory grows, by how much, and in which lines.

        Raises NotRunningError before `start()`, and CaptureError where the watch is off.
        """
        self._running()
        if self.watch is None:
            raise CaptureError(
                "the leak watch is off: leak_window is 0, or not given and the heap engine is not "
                "the native one"
            )
        return self.watch.report()

    def begin(self, name: str) -> Window:
        """Open a window that begins now; its `end()` gives the profile.

        Raises UnknownProfileError, NotRunningError or CaptureError, and ConfigError for
        `delta_heap`.
        """
        kind = self._kind(name)
        if not kind.has_windows:
            raise ConfigError(f"{name} is always of the time since its last capture")
        return Window(kind)

    def capture(
        self, name: str, seconds: float | None = None, *, last: float | None = None
    ) -> Profile:
        """Make a profile.

        name: `heap`, `allocs`, `delta_heap`, `profile` (or `cpu`), `wall` (or `fgprof`),
            `goroutine`, `threadcreate`, and `block` and `mutex`, which are always empty
        seconds: length of the window to wait for. None is all there is at once: what is
            alive or there now, and for `profile` and `wall` everything since the start.
        last: length of the window that has just ended, in seconds; `heap`, `allocs`, `profile`
            and `wall` have one, for up to `Config.look_back`. Not together with `seconds`.

        Raises UnknownProfileError for a name it does not know, NotRunningError before
        `start()`, CaptureError if collecting fails or the engine cannot look back, ValueError
        if `seconds` or `last` cannot be used.
        """
        if last is not None:
            if seconds is not None:
                raise ValueError(f"seconds is {seconds!r} and last is {last!r}; use one of them")
            check_last(last, self.config.look_back)
            return look_back(self._kind(name), name, last)
        if seconds is None:
            return self._since_start(name)
        check_seconds(seconds)
        window = self.begin(name)
        time.sleep(seconds)
        return window.end()

    async def capture_async(
        self, name: str, seconds: float | None = None, *, last: float | None = None
    ) -> Profile:
        """`capture` for an asyncio program: neither waiting nor collecting blocks the loop."""
        import asyncio  # here: see `Worker.run`

        self._tasks.watch(asyncio.get_running_loop())
        if last is not None:
            return await self.offload(self.capture, name, seconds, last=last)
        if seconds is None:
            return await self.offload(self._since_start, name)
        check_seconds(seconds)
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
        return await self._running().run(function, *args, **kwargs)

    async def each_thread_and_task(self) -> Profile:
        """Every thread and asyncio task as a row of its own; see `ThreadsAndTasks.each`."""
        import asyncio

        self._tasks.watch(asyncio.get_running_loop())
        return await self.offload(self._tasks.each)

    def symbols(self) -> Mapping[int, str]:
        """Function names by address, of all frames that profiles of now have. Takes long."""
        found = map(frames_of, self._sources.values())
        frames = [*MARKERS, *self._names.known(), *chain.from_iterable(found)]
        number = address.__wrapped__  # whose cache would keep them
        return {number(frame): frame.function for frame in gently(frames)}

    def _since_start(self, name: str) -> Profile:
        kind = self._kind(name)
        return rounded(kind.finish(kind.snapshot()))

    def _known(self, name: str) -> Kind:
        kind = self._kinds.get(ALIASES.get(name, name))
        if kind is None:
            raise UnknownProfileError(
                f"unknown profile {name!r}; this agent has: {', '.join(self._kinds)}"
            )
        return kind

    def _kind(self, name: str) -> Kind:
        kind = self._known(name)
        self._running()
        return kind

    def _running(self) -> Worker:
        if lost := forks.notice():
            raise NotRunningError(lost)
        if self._worker is None:
            raise NotRunningError("the agent is not running; call pyprof_agent.start() first")
        return self._worker

    def before_fork(self) -> None:
        """Get ready for a fork; `forks` calls it."""
        for part in self._parts():
            part.before_fork()

    def after_fork(self, *, child: bool) -> None:
        """Go on after a fork, in the parent or in the child; `forks` calls it."""
        for part in self._parts():
            part.after_fork(child=child)

    def _parts(self) -> list[Source | Worker]:
        parts = (*self._sources.values(), self._worker)
        return [part for part in parts if part is not None]


def _show_allocations(profile: Profile) -> Profile:
    return changed(profile, default_sample_type="alloc_space")
