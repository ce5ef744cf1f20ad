"""Rows of the native engines, in C until somebody asks for samples; names of their functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.batches import batches, gently
from pyprof_agent.profile import MAPPING, Frame, Label, Profile, Rows, Sample, unmade
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.stack_counters import (
    NATIVE_THREADS,
    OVERFLOW,
    RUNNING,
    SAMPLER,
    UNSAMPLED,
    WAITING,
)

if not extension_unusable():
    from pyprof_agent._native import core
if TYPE_CHECKING:
    from pyprof_agent._native import _core

NOW = -1
"""The moment that asks a native engine for the present, not for the past."""

NO_GIL = Frame("<allocated without the GIL>", "", 0, 0)
"""Stands for the stack of a block that C code allocated while it had released the GIL."""

NO_PYTHON = Frame("<outside of Python functions>", "", 0, 0)
"""Stands for the stack of a thread that runs no Python function."""

UNREADABLE = Frame("<unreadable stack>", "", 0, 0)
"""Stands for a stack that changed at each attempt to read it."""

_MARKERS: dict[int, Frame] = (
    {}
    if extension_unusable()
    else {
        core.MARKER_CUT: TRUNCATED,
        core.MARKER_NO_GIL: NO_GIL,
        core.MARKER_NO_FRAME: NO_PYTHON,
        core.MARKER_OVERFLOW: OVERFLOW,
        core.MARKER_UNREADABLE: UNREADABLE,
        core.MARKER_UNSAMPLED: UNSAMPLED,
        core.MARKER_NATIVE: NATIVE_THREADS,
        core.MARKER_SAMPLER: SAMPLER,
    }
)

_MARKER_NAMES = tuple(
    [_MARKERS.get(number, NO_PYTHON).function for number in range(max(_MARKERS, default=0) + 1)]
)

_Labels = tuple[Label, ...]


def moment_ago(seconds: float) -> int:
    """Return the time of the monotonic clock `seconds` ago, in ns, or 0 if it did not run then.

    Linux starts that clock with the machine, so that on one that has just been started the
    difference may be negative, which is no moment.
    """
    return max(0, time.monotonic_ns() - round(seconds * 1e9))


class NativeNames:
    """Names of the functions that a sampler has seen, by its numbers.

    names: where they come from
    """

    def __init__(self, names: FrameNames) -> None:
        self._names = names
        self._epoch = -1
        self._table: _core.Names | None = None

    @property
    def own_bytes(self) -> int:
        """The memory of the table."""
        return 0 if self._table is None else core.names_bytes(self._table)

    def table(self, epoch: int, snapshot: _core.Snapshot, functions: int) -> _core.Names:
        """A table with the names of all functions of a snapshot.

        epoch: another number once functions have others
        functions: how many numbers there are, that of no function included
        """
        if epoch != self._epoch or self._table is None:
            self._epoch, self._table = epoch, core.names_new()
        # Held here, as a signal handler may stop and start the engine meanwhile. It may ask for a
        # profile, too: who comes second adds nothing.
        table = self._table
        for start, stop in batches(core.names_next(table), functions):
            new = core.snapshot_functions(snapshot, start, stop)
            for number, (name, file, first_line) in enumerate(new, start):
                core.names_add(table, number, *self._names.named(name, file), first_line)
        return table


@dataclass(frozen=True, slots=True)
class NativeRows:
    """Rows of a snapshot, or what was made of such.

    rows: in C
    nodes: how many there were when they were read
    names: of their functions
    tables: the sampler and its epoch: rows of the same can be subtracted
    labels: by the number that rows have for them
    gone: number of the labels that take over the rows of labels missing in a later snapshot;
        NO_LABELS: none does
    shown: the values of a sample, of those of a row
    of_states: numbers of labels are twice these, and one more where the thread waited
    """

    rows: _core.Rows
    nodes: int
    names: _core.Names
    tables: tuple[object, int]
    labels: Mapping[int, _Labels]
    gone: int
    shown: Callable[[tuple[int, ...]], tuple[int, ...]]
    of_states: bool = False

    def samples(self) -> tuple[Sample, ...]:
        """See `profile.Rows`."""
        frames = self.frames()
        place: dict[tuple[tuple[Frame, ...], _Labels], int] = {}  # in `sums`
        sums: list[tuple[int, ...]] = []
        labels: dict[int, _Labels] = {}
        for start, stop in batches(0, core.rows_count(self.rows)):
            for stack, values, number in core.rows_items(self.rows, start, stop, frames):
                if number not in labels:
                    labels[number] = self._labels(number)
                index = place.setdefault((stack, labels[number]), len(sums))
                if index == len(sums):
                    sums.append(values)
                else:
                    both = zip(sums[index], values, strict=True)
                    sums[index] = tuple([a + b for a, b in both])
        made: list[Sample] = []
        keys = list(place)
        for start, stop in batches(0, len(keys)):
            shown = core.untrack(list(map(self.shown, sums[start:stop])))
            made += core.untrack(
                [
                    Sample(stack, values, whose)
                    for (stack, whose), values in zip(keys[start:stop], shown, strict=True)
                    if any(values)
                ]
            )
        return tuple(made)

    def frames(self) -> list[Frame]:
        """See `profile.Rows`."""
        found = core.rows_frames(self.rows, self.names, len(_MARKER_NAMES))
        return core.untrack([_frame(each) for each in gently(found)])

    def lines(self, own: str, around: tuple[str, ...]) -> dict[Frame, tuple[int, ...]]:
        """See `profile.Rows`."""
        found = core.rows_lines(self.rows, self.names, len(_MARKER_NAMES), own, around)
        return {_frame(each): values for each, values in gently(found)}

    def encode(self, profile: Profile) -> bytes:
        """See `profile.Rows`."""
        numbers = core.rows_labels(self.rows)
        labels = list(map(self._labels, numbers))
        sets = sorted(set(labels), key=repr)
        place = {labels: index for index, labels in enumerate(sets)}
        types = [value_type.type for value_type in profile.sample_types]
        default = profile.default_sample_type
        return core.rows_encode(
            self.rows,
            self.names,
            _MARKER_NAMES,
            list(map(_written, sets)),
            numbers,
            [place[each] for each in labels],
            profile.sample_types,
            types.index(default) if default else len(types),
            profile.period_type,
            profile.period,
            profile.time_nanos,
            profile.duration_nanos,
            MAPPING,
            profile.comments,
        )

    def minus(self, earlier: Rows) -> Rows | None:
        """See `profile.Rows`."""
        if not isinstance(earlier, NativeRows) or earlier.tables != self.tables:
            return None
        # Values of an earlier time may have been read later, when there were more nodes.
        larger = max(self, earlier, key=lambda each: each.nodes)
        return replace(
            larger,
            rows=core.rows_subtract(self.rows, earlier.rows, self.gone),
            labels={**earlier.labels, **self.labels},
        )

    def numbered(self) -> NativeRows:
        """The same rows with numbers for labels: names of threads may change, and come again."""
        return replace(self, labels={number: (Label("", number),) for number in self.labels})

    def only(self, columns: Sequence[int]) -> Rows:
        """See `profile.Rows`."""
        return replace(self, rows=core.rows_only(self.rows, sum(1 << each for each in columns)))

    def cpu(self) -> Rows:
        """See `profile.Rows`."""
        return replace(self, rows=core.rows_cpu(self.rows), shown=_as_they_are)

    def wall(self) -> Rows:
        """See `profile.Rows`."""
        rows = core.rows_wall(self.rows)
        return replace(self, rows=rows, shown=_as_they_are, of_states=True)

    def _labels(self, number: int) -> _Labels:
        if not self.of_states:
            return self.labels[number]
        thread, state = divmod(number, 2)
        return (*self.labels[thread], (RUNNING, WAITING)[state])


def comparable(later: Profile, earlier: Profile) -> bool:
    """Return True if a stack has the same number in both profiles, so C can subtract their rows."""
    rows, others = unmade(later), unmade(earlier)
    return (
        isinstance(rows, NativeRows)
        and isinstance(others, NativeRows)
        and rows.tables == others.tables
    )


def _frame(found: tuple[str, str, int, int] | int) -> Frame:
    return _MARKERS.get(found, NO_PYTHON) if isinstance(found, int) else Frame(*found)


def _as_they_are(values: tuple[int, ...]) -> tuple[int, ...]:
    return values


def _written(labels: Sequence[Label]) -> _Labels:
    """On the wire an empty text would be the number 0."""
    return tuple([label for label in labels if label.value != ""])
