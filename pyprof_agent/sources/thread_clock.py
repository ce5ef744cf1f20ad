"""Another thread of this process: its name, id and CPU clock, read without any risk to it."""

from __future__ import annotations

import os
import sys
import threading
import time

from pyprof_agent.hidden_thread import HIDDEN, HiddenThread

_CPUCLOCK_SCHED_PERTHREAD = 6

AnyThread = threading.Thread | HiddenThread


def native_id_of(thread: AnyThread) -> int | None:
    """The kernel's id of a thread; None while it is starting.

    Up to 3.12 the main thread of a forked child keeps its parent's in `native_id`. On Linux
    the main thread's id is the process's.
    """
    if sys.platform == "linux" and thread is threading.main_thread():
        return os.getpid()
    return thread.native_id


def thread_of(ident: int) -> AnyThread | None:
    """The thread of that `threading.get_ident()`; None where nobody has made a note of it.

    Not by `threading.enumerate()`: it takes a lock that a thread may hold while it waits for us.
    """
    thread: AnyThread | None = threading._active.get(ident)  # type: ignore[attr-defined]
    return HIDDEN.get(ident) if thread is None else thread


def name_of(thread: AnyThread | None) -> str:
    """The name of a thread; `<unknown>` where there is none, or a subclass fails to give it."""
    try:
        return "<unknown>" if thread is None else str(thread.name)
    except Exception:
        return "<unknown>"


def thread_cpu_ns(native_id: int) -> int | None:
    """CPU time of a thread in nanoseconds, by its kernel id; None if it cannot be told.

    Linux only. The clock id is built as Linux's MAKE_THREAD_CPUCLOCK does: the kernel refuses
    the id of a thread that is gone, where `time.pthread_getcpuclockid` may crash on it.
    """
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime_ns((~native_id << 3) | _CPUCLOCK_SCHED_PERTHREAD)
    except OSError:
        return None
