"""tracemalloc on and off, for all who need it in this process: there is only one."""

from __future__ import annotations

import logging
import threading
import tracemalloc

from pyprof_agent import forks

_LOG = logging.getLogger("pyprof_agent")

_lock = threading.RLock()  # guards all below
_users = 0
_ours = False  # whether we have switched it on, and may switch it off
_times = 0  # it was switched on


def begin(max_frames: int, reason: str = "") -> int:
    """Have tracing on until `end()`. Joins in where it is on, with that one's depth of stacks.

    The result is another number each time that tracing had to be switched on: `intact` tells
    by it whether all has been traced since.

    max_frames: depth of the stacks, 1 to 65535
    reason: why it is not the native engine, for the log; empty if it was asked for
    """
    global _users, _ours, _times
    with _lock:
        if not tracemalloc.is_tracing():
            _LOG.info(
                "heap engine tracemalloc: exact, and 2 to 90 times slower on code "
                "that allocates much; switch it off with heap=False%s",
                f". The native engine is not used: {reason}" if reason else "",
            )
            tracemalloc.start(max_frames)
            _ours = True
            _times += 1
        _users += 1
        return _times


def end() -> None:
    """The opposite of one `begin()`. The last switches off, unless it was on before the first."""
    global _users, _ours
    with _lock:
        _users -= 1
        if not _users and _ours:
            _ours = False
            tracemalloc.stop()


def intact(begun: int) -> bool:
    """Whether tracing has not been switched off since `begin()` gave this number."""
    return tracemalloc.is_tracing() and begun == _times


def _new_lock() -> None:
    global _lock
    _lock = threading.RLock()


forks.in_child(_new_lock)  # who held it is not there
