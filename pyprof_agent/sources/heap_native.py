"""The native heap engine: one allocation in every `heap_sample_bytes` bytes is sampled, in C.

There is one sampler in the process. Agents that want the same of it share it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.errors import ConfigError, NotRunningError
from pyprof_agent.profile import Frame, Profile, Sample, ValueType
from pyprof_agent.sources.heap_tracemalloc import SAMPLE_TYPES
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.stack_counters import OVERFLOW

if not extension_unusable():
    from pyprof_agent._native import core

NO_GIL = Frame("<allocated without the GIL>", "", 0, 0)
"""Stands for the stack of a block that C code allocated while it had released the GIL."""

NO_PYTHON = Frame("<outside of Python functions>", "", 0, 0)
"""Stands for the stack of a block allocated by a thread that runs no Python function."""

ROWS_AT_ONCE = 1000
"""Rows made between two chances for other threads to have the GIL: about 1 ms."""


@dataclass(slots=True)
class _Sampler:
    """The process's sampler; `lock` guards the rest, and every call into it."""

    # Re-entrant: a signal handler or a finalizer may ask for a profile in the middle of one.
    lock: threading.RLock
    users: int = 0
    settings: tuple[int, int] = (0, 0)  # bytes between samples, frames
    resets: int = 0


_sampler = _Sampler(threading.RLock())


def unusable() -> str:
    """Why this engine cannot be used here; empty if it can."""
    reason = extension_unusable()
    if reason:
        return reason
    with _sampler.lock:
        if _sampler.users:
            return ""
        try:
            core.heap_start(2.0**40, 1)
        except RuntimeError as error:
            return str(error)
        core.heap_stop()
    return ""


class NativeHeap:
    """Live and allocated bytes and objects by stack, estimated from samples.

    Each allocation of S bytes is sampled with probability 1 - exp(-S / R), R being
    `sample_bytes`, and then stands for the inverse of that many: the estimate is unbiased,
    and its standard error for B bytes of small blocks is about sqrt(B R).

    names: where frames come from
    sample_bytes: R, mean number of bytes between two samples, 1 to 2**40
    max_frames: depth of the stacks, 1 to 1024
    now: the clock, Unix time in nanoseconds
    """

    name = "native"

    def __init__(
        self,
        names: FrameNames,
        *,
        sample_bytes: int,
        max_frames: int,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._names = names
        self._settings = (sample_bytes, max_frames)
        self._now = now
        self._started = False
        self._frames: list[Frame] = []  # by the sampler's node

    def start(self) -> None:
        """Start the sampler, or join in where it runs. Does nothing if this engine runs.

        Raises ConfigError if it runs with other settings, or cannot run.
        """
        with _sampler.lock:
            if self._started:
                return
            if _sampler.users == 0:
                try:
                    core.heap_start(*self._settings)
                except RuntimeError as error:
                    raise ConfigError(f"heap_engine is 'native'; it cannot run: {error}") from None
                _sampler.settings, _sampler.resets = self._settings, 0
            elif _sampler.settings != self._settings:
                sample_bytes, max_frames = _sampler.settings
                raise ConfigError(
                    f"heap_sample_bytes is {self._settings[0]} and max_frames {self._settings[1]}; "
                    f"the heap sampler runs already, with {sample_bytes} and {max_frames}: "
                    "stop the agent that uses it first"
                )
            _sampler.users += 1
            self._started = True
            self._frames = []

    def stop(self) -> None:
        """Stop the sampler unless another agent uses it. Does nothing if this does not run."""
        with _sampler.lock:
            if not self._started:
                return
            self._started = False
            _sampler.users -= 1
            if _sampler.users == 0:
                core.heap_stop()

    def snapshot(self) -> Profile:
        """What is in use now, and all that was allocated since the sampler's start.

        The GIL is held without a break for some milliseconds at most.

        Raises NotRunningError before `start()` and after `stop()`.
        """
        with _sampler.lock:
            if not self._started:
                raise NotRunningError("the native heap engine is not running")
            _sampler.resets += core.heap_repair()
            time_nanos = self._now()
            # Naming may run any code, which may restart this engine, or ask for another profile.
            frames = self._frames
            known = len(frames)
            snapshot, count, nodes = core.heap_snapshot(known)
            frames[known : known + len(nodes)] = [self._frame(*node) for node in nodes]
            samples: list[Sample] = []
            for start in range(0, count, ROWS_AT_ONCE):
                rows = core.heap_rows(snapshot, start, start + ROWS_AT_ONCE, frames)
                samples += [Sample(stack, values) for stack, values in rows]
            comments = self._comments()
        return Profile(
            sample_types=SAMPLE_TYPES,
            samples=tuple(samples),
            period_type=ValueType("space", "bytes"),
            period=self._settings[0],
            time_nanos=time_nanos,
            default_sample_type="inuse_space",
            comments=comments,
        )

    def stats(self) -> dict[str, float]:
        """Samples so far, alive, and lost; stacks and frames known; its own memory in bytes.

        `dropped`: for want of memory, or as other code had removed the hooks
        `overflowed`: counted, but on `<too many stacks>`, as the table was full
        `subinterpreter`: not sampled, as they were allocated in a subinterpreter
        `resets`: times that other code had removed the hooks
        """
        return {**core.heap_stats(), "resets": _sampler.resets}

    def before_fork(self) -> None:
        """Nothing to do: the sampler looks after itself."""

    def after_fork(self, *, child: bool) -> None:
        """The child keeps what was alive; the lock may belong to a thread it does not have."""
        if child:
            _sampler.lock = threading.RLock()

    def _frame(self, code: CodeType | None, instruction: int) -> Frame:
        if code is not None:
            return self._names.of_code(code, instruction)
        return _MARKERS.get(instruction, NO_PYTHON)

    def _comments(self) -> tuple[str, ...]:
        stats = self.stats()
        comments = [
            f"heap engine: native, a sample every {self._settings[0]} bytes on average, "
            f"{stats['samples']} so far, {stats['live']} of them in use",
            f"resident set size: {_resident_set_size()}; memory that C code does not get from "
            "Python's allocators is not seen",
        ]
        losses = {
            "dropped": "samples were lost: no memory, or other code had removed the hooks",
            "overflowed": "samples came after the table of stacks was full",
            "subinterpreter": "samples were not taken: they fell into a subinterpreter",
            "resets": "times other code removed the hooks (tracemalloc.stop()): what was alive "
            "then counts as freed",
        }
        comments += [f"{stats[key]} {text}" for key, text in losses.items() if stats[key]]
        return tuple(comments)


def _resident_set_size() -> str:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return f"{int(statm.read().split()[1]) * os.sysconf('SC_PAGESIZE')} bytes"
    except OSError as error:  # there is no /proc, or no descriptor left: no reason to fail
        return f"unknown ({error.strerror})"


_MARKERS: dict[int, Frame] = (
    {}
    if extension_unusable()
    else {
        core.MARKER_CUT: TRUNCATED,
        core.MARKER_NO_GIL: NO_GIL,
        core.MARKER_NO_FRAME: NO_PYTHON,
        core.MARKER_OVERFLOW: OVERFLOW,
    }
)
