"""Which engine samples the heap and which the stacks, and why it is not the native one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from pyprof_agent.config import Config
from pyprof_agent.errors import ConfigError, NotRunningError
from pyprof_agent.profile import Frame, Profile, unmade
from pyprof_agent.sources import heap_native, stacks_native
from pyprof_agent.sources.heap_tracemalloc import TracemallocHeap
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.stacks_python import DEFAULT_HZ, PythonStacks


class Source(Protocol):
    """What every engine has."""

    name: str

    @property
    def generation(self) -> int:
        """Another number once its counters have begun anew."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def snapshot(self) -> Profile: ...
    def stats(self) -> dict[str, float]: ...
    def before_fork(self) -> None: ...
    def after_fork(self, *, child: bool) -> None: ...


class CountingSource(Source, Protocol):
    """What engines have besides."""

    @property
    def past(self) -> Callable[[float], Profile] | None:
        """What `snapshot()` would have given so many seconds ago; None if that is not kept."""


class HeapSource(CountingSource, Protocol):
    """What a heap engine has besides."""

    def window(self, later: Profile, earlier: Profile) -> Profile:
        """What changed between two snapshots."""

    def in_use_bytes(self) -> int:
        """What is in use, as far as it is seen, and without making a profile."""


class StackSource(CountingSource, Protocol):
    """What a stack engine has besides."""

    exact_hits: bool  # see stack_counters.cpu_profile

    @property
    def newcomers(self) -> Callable[[], bool] | None:
        """Tells whether there are new threads whose names have not been looked up.

        None if the engine looks names up by itself.
        """

    def look_up_names(self) -> None:
        """Look up the names of new threads, which may have ended by the next snapshot."""

    def window(self, later: Profile, earlier: Profile) -> Profile:
        """The difference between two snapshots."""


def heap_engine(config: Config, names: FrameNames) -> tuple[HeapSource, str]:
    """The heap engine, and why it is not the native one where that was not ruled out.

    Raises ConfigError where the native engine is asked for and cannot be used.
    """
    reason = "" if config.heap_engine == "tracemalloc" else heap_native.unusable()
    if reason and config.heap_engine == "native":
        raise ConfigError(
            f"heap_engine is 'native'; the native heap engine cannot be used: {reason}. "
            "Use 'auto' or 'tracemalloc'"
        )
    if reason or config.heap_engine == "tracemalloc":
        return TracemallocHeap(names, max_frames=config.max_frames, reason=reason), reason
    engine = heap_native.NativeHeap(
        names,
        sample_bytes=config.heap_sample_bytes,
        max_frames=config.max_frames,
        look_back=config.look_back,
    )
    return engine, ""


def stack_engine(config: Config, names: FrameNames) -> tuple[StackSource, str]:
    """The stack engine, and why it is not the native one where that was not ruled out.

    Raises ConfigError where the native engine is asked for and cannot be used.
    """
    reason = "" if config.stack_engine == "python" else stacks_native.unusable()
    if reason and config.stack_engine == "native":
        raise ConfigError(
            f"stack_engine is 'native'; the native stack engine cannot be used: {reason}. "
            "Use 'auto' or 'python'"
        )
    if reason or config.stack_engine == "python":
        hz = DEFAULT_HZ if config.stack_hz is None else config.stack_hz
        return PythonStacks(names, max_frames=config.max_frames, hz=hz), reason
    engine = stacks_native.NativeStacks(
        names,
        hz=stacks_native.DEFAULT_HZ if config.stack_hz is None else config.stack_hz,
        max_cpu=config.stack_max_cpu,
        max_frames=config.max_frames,
        look_back=config.look_back,
    )
    return engine, ""


def frames_of(source: Source) -> Sequence[Frame]:
    """Frames of an engine that has their names to itself: of a native one that runs."""
    with contextlib.suppress(NotRunningError):
        rows = unmade(source.snapshot()) if source.name == "native" else None
        return () if rows is None else rows.frames()
    return ()
