"""The heap since it was last looked at: what was allocated meanwhile, and what is in use now."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from pyprof_agent import forks
from pyprof_agent.profile import Profile, Sample, changed, of_rows, unmade


class _Heap(Protocol):
    @property
    def generation(self) -> int: ...

    def snapshot(self) -> Profile: ...
    def window(self, later: Profile, earlier: Profile) -> Profile: ...


class HeapDelta:
    """Profiles of a heap engine in which alloc_* are of the time since the one before.

    The first one has all since the engine's start; so has the first after it began anew. Each
    allocation is in one profile and no other, whoever asks.

    heap: the engine
    """

    def __init__(self, heap: _Heap) -> None:
        self._heap = heap
        self._before: tuple[int, Profile] | None = None  # with the engine's generation
        # Re-entrant: a signal handler may ask for a profile in the middle of one.
        self._lock = forks.lock_of(self)

    def snapshot(self) -> Profile:
        """The profile since the last one. Raises what the engine's `snapshot` does."""
        with self._lock:
            generation = self._heap.generation
            now = self._heap.snapshot()
            before, self._before = self._before, (generation, _allocations(now))
        if before is None or before[0] != generation:
            return now
        # No duration: what is in use is of this moment, and readers take a profile that has one
        # for a difference in every column.
        return changed(self._heap.window(now, before[1]), duration_nanos=0)


def _allocations(profile: Profile) -> Profile:
    """The profile as if nothing of it were in use."""
    rows = unmade(profile)
    if rows is not None:
        return of_rows(rows.only((0, 1)), profile)
    return replace(
        profile,
        samples=tuple(
            [
                Sample(stack, (objects, space, 0, 0))
                for stack, (objects, space, *_), _ in profile.samples
            ]
        ),
    )
