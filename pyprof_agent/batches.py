"""Long work in pieces, between which other threads may have the GIL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from pyprof_agent.pauses import pause

_T = TypeVar("_T")

AT_ONCE = 250
"""Rows, stacks or frames in one piece: half a millisecond of work, or less."""

_WORK = 0.0007  # seconds between two pauses
_PAUSE = 1e-6  # seconds; with what the system adds it takes 60 us


def batches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Ranges from start to stop, to be worked on one after the other, with a pause now and then.

    Without it a thread that wants the GIL gets it after 5 ms (`sys.getswitchinterval()`), and an
    asyncio loop needs it twice for a turn: it was 10 ms late while a profile was made.
    """
    since = time.perf_counter()
    for begin in range(start, stop, AT_ONCE):
        if time.perf_counter() - since > _WORK:
            pause(_PAUSE)
            since = time.perf_counter()
        yield begin, min(begin + AT_ONCE, stop)


def gently(values: Sequence[_T]) -> Iterator[_T]:
    """The values one by one, with the same pauses."""
    for start, stop in batches(0, len(values)):
        yield from values[start:stop]
