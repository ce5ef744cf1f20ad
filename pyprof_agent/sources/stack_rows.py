"""The table of the Python stack engine: a row of counters for each stack of each thread."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType

from pyprof_agent.profile import Frame, Label
from pyprof_agent.sources.code_notes import CodeNotes
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.stack_counters import OVERFLOW

MAX_ROWS = 20_000
"""Distinct pairs of thread and stack that are told apart."""

MAX_SEEN = 4_000
"""Positions remembered, to name a stack once while it is busy; only a cache."""

ROW_RETENTION_NS = 3_600 * 10**9
"""A row unchanged for an hour makes room for a new one when the table is full. It is then
missing from the end of a window longer than that, and from no shorter one."""

EVICTION_INTERVAL_NS = 60 * 10**9
"""A full table is searched for such rows at most once a minute."""

ROW_BYTES = 64 + 72 + 5 * 32
"""Of a row besides its stack: its key, and its counters."""

_Labels = tuple[Label, ...]
_Stack = tuple[Frame, ...]


@dataclass(slots=True)
class Row:
    """Counters of one stack of one thread, and when they last changed (monotonic ns)."""

    ticks: int = 0
    wall: int = 0
    hits: int = 0
    asleep: int = 0
    changed_at: int = 0


class StackRows:
    """Rows by thread labels and stack, bounded; not thread-safe.

    names: where frames come from
    max_frames: depth of the stacks
    """

    def __init__(self, names: FrameNames, max_frames: int) -> None:
        self._names = names
        self._max_frames = max_frames
        self._rows: dict[tuple[_Labels, _Stack], Row] = {}
        # Positions to rows: a cache, so that a stack is named once. The ids in its keys, which are
        # packed, as they would be most of what the cache takes, are those of code that lives.
        self._seen: dict[tuple[_Labels, bytes], Row] = {}
        self._codes: CodeNotes[bool] = CodeNotes(MAX_SEEN * max_frames)
        self._evicted_at = 0
        self._bytes = self._bytes_seen = 0
        self.overflows = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def own_bytes(self) -> int:
        """The memory of the table, without frames and labels."""
        tables = sys.getsizeof(self._rows) + sys.getsizeof(self._seen)
        return self._bytes + self._bytes_seen + tables + self._codes.own_bytes

    def __iter__(self) -> Iterator[tuple[_Labels, _Stack, Row]]:
        return ((labels, stack, row) for (labels, stack), row in self._rows.items())

    def row(self, labels: _Labels, frame: FrameType | None, now: int, held: list[FrameType]) -> Row:
        """The row of a thread that is at `frame` at the moment `now` (monotonic ns).

        held: frames that were looked at are put there, for the caller to release
        """
        # Here and not at a new stack alone: one that found no room is remembered with its
        # overflow row, and would stay there however much room there is.
        if len(self._rows) >= MAX_ROWS:
            self._evict(now)
        codes: list[CodeType] = []
        instructions: list[int] = []
        while frame is not None and len(codes) < self._max_frames:
            codes.append(frame.f_code)
            instructions.append(frame.f_lasti)
            held.append(frame)
            frame = frame.f_back
        if self._codes.sweep():  # now that those above are held: they may have these ids
            self._forget_seen()
        position = array("Q", map(id, codes)).tobytes() + array("i", instructions).tobytes()
        key = (labels, position)
        row = self._seen.get(key)
        if row is None:
            stack = tuple(map(self._names.of_code, codes, instructions))
            if frame is not None:
                held.append(frame)
                stack += (TRUNCATED,)
            row = self._intern(labels, stack)
            if len(self._seen) >= MAX_SEEN:
                self._forget_seen()
            for code in codes:
                if not self._codes.get(code):
                    self._codes.put(code, True)
            self._seen[key] = row
            self._bytes_seen += sys.getsizeof(key) + sys.getsizeof(position)
        return row

    def _forget_seen(self) -> None:
        self._seen, self._codes = {}, CodeNotes(MAX_SEEN * self._max_frames)
        self._bytes_seen = 0

    def _intern(self, labels: _Labels, stack: _Stack) -> Row:
        row = self._rows.get((labels, stack))
        if row is None:
            if len(self._rows) >= MAX_ROWS:
                self.overflows += 1
                return self._rows.setdefault((labels, (OVERFLOW,)), Row())
            row = self._rows[labels, stack] = Row()
            self._bytes += _bytes_of(stack)
        return row

    def _evict(self, now: int) -> None:
        if now - self._evicted_at < EVICTION_INTERVAL_NS:
            return
        self._evicted_at = now
        self._rows = {
            key: row for key, row in self._rows.items() if now - row.changed_at < ROW_RETENTION_NS
        }
        self._bytes = sum(_bytes_of(stack) for _, stack in self._rows)
        self._forget_seen()


def _bytes_of(stack: _Stack) -> int:
    return sys.getsizeof(stack) + ROW_BYTES
