"""The native heap engine: one allocation in every `heap_sample_bytes` bytes is sampled, in C.

There is one sampler in the process. Agents that want the same of it share it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.errors import ConfigError, NotRunningError
from pyprof_agent.profile import Frame, Profile, Sample, ValueType, merge, subtract
from pyprof_agent.sources import heap_rows
from pyprof_agent.sources.heap_tracemalloc import SAMPLE_TYPES
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.own_process import resident_bytes
from pyprof_agent.sources.stack_counters import OVERFLOW

if not extension_unusable():
    from pyprof_agent._native import core

NO_GIL = Frame("<allocated without the GIL>", "", 0, 0)
"""Stands for the stack of a block that C code allocated while it had released the GIL."""

NO_PYTHON = Frame("<outside of Python functions>", "", 0, 0)
"""Stands for the stack of a block allocated by a thread that runs no Python function."""

AT_ONCE = 1000
"""Rows or frames made between two chances for other threads to have the GIL: about 1 ms."""


MAX_STACKS_KEPT = 20_000
"""Stacks kept from one snapshot to the next; to make them takes most of its time. At the
default depth of 128 frames they have 22 MB at most."""


@dataclass(slots=True)
class _Sampler:
    """The process's sampler; `lock` guards the rest, and every call into it."""

    # Re-entrant: a signal handler or a finalizer may ask for a profile in the middle of one.
    lock: threading.RLock
    users: int = 0
    settings: tuple[int, int] = (0, 0)  # bytes between samples, frames
    resets: int = 0
    epoch: int = 0  # grows when stacks and frames get other numbers


_LOG = logging.getLogger("pyprof_agent")
_sampler = _Sampler(threading.RLock())


def _new_lock() -> None:
    _sampler.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)  # who held it is not in the child


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
        self._epoch = 0
        self._frames: list[Frame] = []  # by the sampler's node
        self._stacks: list[tuple[Frame, ...]] = []  # by its row, as far as they are kept
        self.generation = 0

    def start(self) -> None:
        """Start the sampler, or join in where it runs. Does nothing if this engine runs.

        If it runs with other settings, these stay, and a warning is logged.

        Raises ConfigError if it cannot run.
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
                _LOG.warning(
                    "heap_sample_bytes=%d, max_frames=%d have no effect: the heap sampler runs "
                    "already, with %d and %d; stop the agents that use it, then start",
                    *self._settings,
                    *_sampler.settings,
                )
            _sampler.users += 1
            self._started = True
            self._epoch, self._frames, self._stacks = _sampler.epoch, [], []
            self.generation += 1

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
            _sampler.epoch += core.heap_compact()
            if self._epoch != _sampler.epoch:
                self._epoch, self._frames, self._stacks = _sampler.epoch, [], []
            # Held here, as a signal handler may stop and start the engine meanwhile; and filled by
            # place, as it may ask for a profile.
            frames, kept = self._frames, self._stacks
            known = len(frames)
            snapshot, nodes, rows = core.heap_snapshot(known)
            for start, stop in _batches(known, nodes):
                codes, instructions = core.heap_nodes(snapshot, start, stop)
                frames[start:stop] = map(self._frame, codes, instructions)
            for start, stop in _batches(len(kept), min(rows, MAX_STACKS_KEPT)):
                kept[start:stop] = core.heap_stacks(snapshot, start, stop, frames)
            stacks = kept[:rows]
            for start, stop in _batches(len(stacks), rows):
                stacks += core.heap_stacks(snapshot, start, stop, frames)
            samples: list[Sample] = []
            for start, stop in _batches(0, rows):
                samples += map(Sample, stacks[start:stop], core.heap_values(snapshot, start, stop))
            comments = self._comments()
        return Profile(
            sample_types=SAMPLE_TYPES,
            samples=tuple(samples),
            period_type=ValueType("space", "bytes"),
            period=_sampler.settings[0],
            time_nanos=time_nanos,
            default_sample_type="inuse_space",
            comments=comments,
        )

    def window(self, later: Profile, earlier: Profile) -> Profile:
        """What changed between two snapshots; alloc_* are never negative."""
        if _overflow(later) == _overflow(earlier):
            return subtract(later, earlier)
        # Rows may have been folded between the two. Those of equal stacks, from places on one
        # line, are added up first.
        return heap_rows.window(merge([later]), merge([earlier]))

    def in_use_bytes(self) -> int:
        """An estimate of the bytes in use, without the stacks: takes some milliseconds at most.

        0 if it does not run.
        """
        with _sampler.lock:
            if not self._started:
                return 0
            snapshot, _, rows = core.heap_snapshot(sys.maxsize)  # without frames
            return sum(
                row[3]
                for start, stop in _batches(0, rows)
                for row in core.heap_values(snapshot, start, stop)
            )

    def stats(self) -> dict[str, float]:
        """Samples so far, alive, and lost; stacks and frames known; its own memory in bytes.

        `dropped`: for want of memory, or as other code had removed the hooks
        `overflowed`: counted, but on `<too many stacks>`, as the table was full
        `folded`: stacks with nothing alive whose row went there, to make room for others
        `subinterpreter`: not sampled, as they were allocated in a subinterpreter
        `resets`: times that other code had removed the hooks
        `sample_bytes`: the mean number of bytes between two samples
        """
        return {
            **core.heap_stats(),
            "resets": _sampler.resets,
            "sample_bytes": _sampler.settings[0],
        }

    def before_fork(self) -> None:
        """Nothing to do: the sampler looks after itself."""

    def after_fork(self, *, child: bool) -> None:
        """Nothing to do: the child keeps what was alive."""

    def _frame(self, code: CodeType | None, instruction: int) -> Frame:
        if code is not None:
            return self._names.of_code(code, instruction)
        return _MARKERS.get(instruction, NO_PYTHON)

    def _comments(self) -> tuple[str, ...]:
        stats = self.stats()
        comments = [
            f"heap engine: native, a sample every {_sampler.settings[0]} bytes on average, "
            f"{stats['samples']} so far, {stats['live']} of them in use",
            f"resident set size: {_resident_set_size()}; memory that C code does not get from "
            "Python's allocators is not seen",
        ]
        losses = {
            "dropped": "samples were lost: no memory, or other code had removed the hooks",
            "overflowed": "samples came after the table of stacks was full",
            "folded": f"stacks with nothing alive have lost their rows to {OVERFLOW.function}",
            "subinterpreter": "samples were not taken: they fell into a subinterpreter",
            "resets": "times other code removed the hooks (tracemalloc.stop()): what was alive "
            "then counts as freed",
        }
        comments += [f"{stats[key]} {text}" for key, text in losses.items() if stats[key]]
        return tuple(comments)


def _overflow(profile: Profile) -> list[tuple[float, ...]]:
    return [row.values for row in profile.samples if row.stack == (OVERFLOW,)]


def _batches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    for begin in range(start, stop, AT_ONCE):
        yield begin, min(begin + AT_ONCE, stop)


def _resident_set_size() -> str:
    try:
        return f"{resident_bytes()} bytes"
    except OSError as error:  # no reason to fail
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
