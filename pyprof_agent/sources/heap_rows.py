"""The table of the heap engine: what each stack has allocated and holds, bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import itemgetter

from pyprof_agent.profile import Frame, Profile, Sample, subtract
from pyprof_agent.sources.stack_counters import OVERFLOW

MAX_ROWS = 20_000
"""Past this many stacks, those that hold nothing any more share one row: generated code has no
end of stacks. What is alive always has a row of its own."""

_Stack = tuple[Frame, ...]
_Row = tuple[int, int, int, int]  # the values of a sample

_OVERFLOW_STACK = (OVERFLOW,)
_alloc_space = itemgetter(1)


class HeapRows:
    """Rows by stack: alloc_objects, alloc_space, inuse_objects, inuse_space; not thread-safe."""

    def __init__(self) -> None:
        self._rows: dict[_Stack, _Row] = {}
        self._overflow: _Row = (0, 0, 0, 0)
        self.folded = 0
        """Rows that had to give up their place so far."""

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        # Of a copy, here and below: a signal handler may take a snapshot in the middle of one.
        for stack, row in list(self._rows.items()):
            yield Sample(stack, row)
        if self.folded:
            yield Sample(_OVERFLOW_STACK, self._overflow)

    def update(self, live: Mapping[_Stack, tuple[int, int]]) -> None:
        """Take in what is alive now: objects and bytes by stack."""
        for stack in self._rows.keys() | live.keys():
            alloc_objects, alloc_space, *before = self._rows.get(stack, (0, 0, 0, 0))
            objects, space = live.get(stack, (0, 0))
            self._rows[stack] = (
                alloc_objects + max(objects - before[0], 0),
                alloc_space + max(space - before[1], 0),
                objects,
                space,
            )
        if len(self._rows) > MAX_ROWS:
            self._fold()

    def _fold(self) -> None:
        dead = [(stack, row) for stack, row in list(self._rows.items()) if not row[2]]
        # Those that have allocated least are missed least. A tenth more than there must be, so
        # that not every snapshot sorts.
        dead.sort(key=lambda entry: _alloc_space(entry[1]))
        for stack, _ in dead[: len(self._rows) - MAX_ROWS + MAX_ROWS // 10]:
            row = self._rows.pop(stack, None)
            if row is not None:
                objects, space, *_ = self._overflow
                self._overflow = (objects + row[0], space + row[1], 0, 0)
                self.folded += 1


def window(later: Profile, earlier: Profile, *, in_parts: bool = False) -> Profile:
    """What changed between two snapshots of a table; alloc_* are never negative.

    A row that was folded between them took what it had allocated to the overflow row. It is
    looked for there in the earlier snapshot too, so that moving it counts as no allocation.

    in_parts: a row here is several in the table, those of the places on one line, of which some
        may have stayed; what is missing now has been moved, and no more
    """
    rows = {sample.stack: sample.values for sample in later.samples}
    samples = []
    for sample in earlier.samples:
        objects, space, *in_use = sample.values
        now = rows.get(sample.stack, (0, 0))
        if now[0] < objects or now[1] < space:
            stayed = (min(objects, now[0]), min(space, now[1])) if in_parts else (0, 0)
            moved = (objects - stayed[0], space - stayed[1], 0, 0)
            samples.append(Sample(_OVERFLOW_STACK, moved))
            sample = Sample(sample.stack, (*stayed, *in_use))
        samples.append(sample)
    return subtract(later, replace(earlier, samples=tuple(samples)))
