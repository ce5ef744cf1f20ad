"""The heap engine that works everywhere: the standard library's tracemalloc.

Exact for what is alive, and slow: 2 to 90 times slower code that allocates much.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

from pyprof_agent import forks
from pyprof_agent.errors import CaptureError, NotRunningError
from pyprof_agent.profile import Frame, Profile, ValueType
from pyprof_agent.sources import heap_rows, tracing
from pyprof_agent.sources.heap_rows import HeapRows
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.stack_counters import OVERFLOW

SAMPLE_TYPES = (
    ValueType("alloc_objects", "count"),
    ValueType("alloc_space", "bytes"),
    ValueType("inuse_objects", "count"),
    ValueType("inuse_space", "bytes"),
)

AGENT = Frame("<pyprof-agent>", "", 0, 0)
"""Stands for every stack with this package's own code in it: counted, but in one row."""

_OWN_FILES = frozenset(map(str, Path(__file__).parent.parent.rglob("*.py")))
_filename = itemgetter(0)

_Stack = tuple[Frame, ...]


class TracemallocHeap:
    """Live bytes and objects by stack, every one of them since `start()`.

    alloc_* are lower bounds. tracemalloc forgets a block when it is freed, so what was
    allocated is known only as far as a snapshot saw it alive: each snapshot adds to a
    stack's alloc_* what the stack holds more than at the snapshot before.

    names: where frames come from
    max_frames: depth of the stacks, 1 to 1024
    reason: why it is this engine and not the native one; empty if it was asked for
    now: the clock, Unix time in nanoseconds
    """

    name = "tracemalloc"
    past = None

    def __init__(
        self,
        names: FrameNames,
        *,
        max_frames: int,
        reason: str = "",
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._names = names
        self._max_frames = max_frames
        self._reason = reason
        self._now = now
        # Guards all below. Re-entrant: a signal handler or a finalizer may ask for a profile in
        # the middle of one.
        self._lock = forks.lock_of(self)
        self._started = False
        self._tracing = 0
        self._rows = HeapRows()
        self.generation = 0

    def start(self) -> None:
        """Start tracing, or join in where the program already traces."""
        with self._lock:
            if self._started:
                return
            self._tracing = tracing.begin(self._max_frames, self._reason)
            self._rows = HeapRows()
            self.generation += 1
            self._started = True

    def stop(self) -> None:
        """Stop tracing, unless it was on before `start()` or another engine needs it."""
        with self._lock:
            if self._started:
                self._started = False
                tracing.end()
            self._rows = HeapRows()

    def snapshot(self) -> Profile:
        """What is in use now.

        The GIL is held without a break for about 0.4 us a live block (500,000 blocks:
        0.2 s), in tracemalloc itself.

        Raises NotRunningError before `start()` and CaptureError if other code has switched
        tracemalloc off.
        """
        with self._lock:
            if not self._started:
                raise NotRunningError("the tracemalloc heap engine is not running")
            if not tracing.intact(self._tracing):
                raise CaptureError(
                    "other code has called tracemalloc.stop(); what was allocated is unknown "
                    "until the agent is stopped and started again"
                )
            limit = tracemalloc.get_traceback_limit()
            time_nanos = self._now()
            self._rows.update(self._collect())
            samples = tuple(self._rows)
            folded = self._rows.folded
        comments = [
            f"heap engine: tracemalloc, every allocation since its start, {limit} frames",
            "alloc_objects and alloc_space are lower bounds: what a snapshot saw alive",
        ]
        if self._reason:
            comments.append(f"the native heap engine is not used: {self._reason}")
        if folded:
            comments.append(
                f"{folded} stacks with nothing alive have lost their rows to {OVERFLOW.function}"
            )
        return Profile(
            sample_types=SAMPLE_TYPES,
            samples=samples,
            period_type=ValueType("space", "bytes"),
            period=1,
            time_nanos=time_nanos,
            default_sample_type="inuse_space",
            comments=tuple(comments),
        )

    def window(self, later: Profile, earlier: Profile) -> Profile:
        """What changed between two snapshots; alloc_* are never negative."""
        return heap_rows.window(later, earlier)

    def in_use_bytes(self) -> int:
        """The bytes in use that were allocated since the start."""
        return tracemalloc.get_traced_memory()[0]

    def stats(self) -> dict[str, float]:
        """`traced_bytes`: live; `overhead_bytes`: tracemalloc's own memory; `stacks`: with a
        row; `folded`: that have lost theirs, see `heap_rows.MAX_ROWS`."""
        return {
            "traced_bytes": tracemalloc.get_traced_memory()[0],
            "overhead_bytes": tracemalloc.get_tracemalloc_memory(),
            "stacks": len(self._rows),
            "folded": self._rows.folded,
        }

    def before_fork(self) -> None:
        """Nothing to do: tracemalloc looks after itself."""

    def after_fork(self, *, child: bool) -> None:
        """Nothing to do: the child keeps what was alive."""

    def _collect(self) -> dict[_Stack, tuple[int, int]]:
        # The raw traces: going through the public Trace objects takes ten times as long.
        # What is allocated here is traced too, at some microseconds each, so the loop makes
        # no objects: not even the integers of a running sum.
        traces = tracemalloc.take_snapshot().traces._traces  # type: ignore[attr-defined]
        sizes: dict[tuple[tuple[str, int], ...], list[int]] = {}
        depths = {}
        while traces:
            _, size, traceback, depth = traces.pop()
            group = sizes.get(traceback)
            if group is None:
                sizes[traceback] = [size]
                depths[traceback] = depth
            else:
                group.append(size)
        live: dict[_Stack, tuple[int, int]] = {}
        for traceback, group in sizes.items():
            stack = self._stack(traceback, depths[traceback])
            objects, space = live.get(stack, (0, 0))
            live[stack] = (objects + len(group), space + sum(group))
        self._names.forget_sources()
        return live

    def _stack(self, traceback: tuple[tuple[str, int], ...], depth: int) -> _Stack:
        if any(map(_OWN_FILES.__contains__, map(_filename, traceback))):
            return (AGENT,)
        stack = self._names.of_lines(traceback)
        return stack if depth <= len(traceback) else (*stack, TRUNCATED)
