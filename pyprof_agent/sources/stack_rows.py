"""The table of the Python stack engine: a row of counters for each stack of each thread."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Iterator
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

FOLDING_INTERVAL_NS = 10 * 10**9
"""A full table makes room at most so often: it takes some 10 ms."""

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
        self._folded_at = 0
        self.moved_at = 0
        """When rows were last moved to others, by the clock of `row`."""
        self._bytes = self._bytes_seen = 0
        self.overflows = self.folded = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def own_bytes(self) -> int:
        """The memory of the table, without frames and labels."""
        tables = sys.getsizeof(self._rows) + sys.getsizeof(self._seen)
        return self._bytes + self._bytes_seen + tables + self._codes.own_bytes

    def __iter__(self) -> Iterator[tuple[_Labels, _Stack, Row]]:
        rows = list(self._rows.items())  # a signal handler may change them in the middle
        return ((labels, stack, row) for (labels, stack), row in rows)

    def row(self, labels: _Labels, frame: FrameType | None, now: int, held: list[FrameType]) -> Row:
        """The row of a thread that is at `frame` at the moment `now` (monotonic ns).

        held: frames that were looked at are put there, for the caller to release
        """
        # Here and not at a new stack alone: one that found no room is remembered with its
        # overflow row, and would stay there however much room there is.
        if len(self._rows) >= MAX_ROWS and now - self._folded_at >= FOLDING_INTERVAL_NS:
            self._folded_at = now
            self._fold(now)
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
            stack = (*map(self._names.of_code, codes, instructions),)
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
                return self._add((labels, (OVERFLOW,)), Row())
            row = self._add((labels, stack), Row())
        return row

    def hand_over(self, lost: Collection[_Labels], others: _Labels, now: int) -> None:
        """Add the rows with labels that threads have lost to those of other labels.

        now: monotonic ns
        """
        self.moved_at = max(self.moved_at, now)
        for key in [key for key in self._rows if key[0] in lost]:
            self._bytes -= _bytes_of(key[1])
            self._add((others, key[1]), self._rows.pop(key))
        self._forget_seen()

    def _fold(self, now: int) -> None:
        """Half of the rows, those that changed last, stay; the others go to `<too many stacks>`."""
        self.moved_at = max(self.moved_at, now)
        rows = sorted(self._rows.items(), key=lambda item: item[1].changed_at, reverse=True)
        self._rows = dict(rows[: MAX_ROWS // 2])
        self._bytes = sum(_bytes_of(stack) for _, stack in self._rows)
        for (labels, stack), row in rows[MAX_ROWS // 2 :]:
            self._add((labels, (OVERFLOW,)), row)
            self.folded += stack != (OVERFLOW,)
        self._forget_seen()

    def _add(self, key: tuple[_Labels, _Stack], row: Row) -> Row:
        """Make this the row of that key, or add it to the one that it has; which one it is."""
        to = self._rows.setdefault(key, row)
        if to is row:
            self._bytes += _bytes_of(key[1])
        else:
            to.ticks += row.ticks
            to.wall += row.wall
            to.hits += row.hits
            to.asleep += row.asleep
            to.changed_at = max(to.changed_at, row.changed_at)
        return to


def _bytes_of(stack: _Stack) -> int:
    return sys.getsizeof(stack) + ROW_BYTES
