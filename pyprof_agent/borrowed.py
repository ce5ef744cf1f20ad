"""Objects of the program that a thread of the agent inspects: frames, tasks, coroutines.

The program may let go of one meanwhile. Then the last reference is ours, and who drops it runs the
finalizers of all that goes with it. So a job keeps what it has borrowed, and the thread that waits
for the job lets go of it, if it is the program's.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from pyprof_agent._native import unusable as extension_unusable

if not extension_unusable():
    from pyprof_agent._native import core

_of_jobs: dict[int, list[object]] = {}  # by the thread that runs one


def begin() -> list[object]:
    """Begin a job in this thread; what it borrows is in this list."""
    return _of_jobs.setdefault(threading.get_ident(), [])


def end() -> None:
    """The job is over."""
    _of_jobs.pop(threading.get_ident(), None)


def forget_in_child() -> None:
    """In a forked child: the threads that ran jobs are not there."""
    _of_jobs.clear()


def keep(thing: object) -> None:
    """Keep what is borrowed, in a job. Does nothing elsewhere: there a thread of the program's has
    asked."""
    kept = _of_jobs.get(threading.get_ident())
    if kept is not None:
        kept.append(thing)


def leave_to_collector(things: list[object]) -> None:
    """Let go of things where no thread of the program's can: the garbage collector frees them,
    which starts in threads of the program only."""
    things.append(things)


@contextlib.contextmanager
def frames() -> Iterator[tuple[dict[int, FrameType], list[FrameType]]]:
    """The frames that all threads are at, by `threading.get_ident()`; to be held only meanwhile.

    Others that are reached from these go into the list. At the end those that are over are left to
    the collector.
    """
    threads = sys._current_frames()
    held = list(threads.values())
    try:
        yield threads, held
    finally:
        threads.clear()
        if extension_unusable():
            held.clear()
        else:
            core.release_frames(held)
