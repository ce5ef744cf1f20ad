"""Waits without an audit event, in which garbage may be collected: see `_native/waker.h`."""

from __future__ import annotations

import _thread
import contextlib
import threading

from pyprof_agent._native import unusable as extension_unusable

if not extension_unusable():
    from pyprof_agent._native import core

_never = _thread.allocate_lock()
_never.acquire()


def green_threads() -> str | None:
    """The module that replaced Python's threads, such as `gevent.thread`; None for real ones."""
    module: str = threading.get_ident.__module__
    return None if module == "_thread" else module


def in_c() -> bool:
    """Whether waits use the extension. Green threads need Python's waits, which gevent replaces."""
    return not extension_unusable() and not green_threads()


def pause(seconds: float) -> None:
    """Wait as `time.sleep` does, without its audit event: the program's audit hooks are Python
    code, which would run here, and may forbid it. A signal may end it."""
    if in_c():
        core.pause(seconds)
    else:
        _never.acquire(timeout=seconds)


def wait_readable(descriptor: int, seconds: float | None) -> None:
    """Wait for up to so many seconds, or for ever, until a file has something to be read.

    Where waits are `in_c()`.
    """
    core.wait_readable(descriptor, _limit(seconds))


def _limit(seconds: float | None) -> float:
    return -1.0 if seconds is None else max(seconds, 0.0)


class Waker:
    """Wakes one thread that waits. Any thread may do so, and a signal handler in any.

    newcomers: whether a wait also ends when the native stack engine has threads without names
    """

    def __init__(self, *, newcomers: bool = False) -> None:
        self._native = core.waker(newcomers) if in_c() else None
        self._lock = _thread.allocate_lock()  # by its full name: gevent replaces it
        self._lock.acquire()

    def wait(self, seconds: float | None) -> bool:
        """Wait for up to so many seconds, or for ever; whether it was woken, since it last was."""
        if self._native is not None:
            return core.waker_wait(self._native, _limit(seconds))
        return self._lock.acquire(timeout=_limit(seconds))

    def wake(self) -> None:
        """End a wait, or the next one."""
        if self._native is not None:
            core.waker_wake(self._native)
        else:
            with contextlib.suppress(RuntimeError):  # it has been woken already
                self._lock.release()
