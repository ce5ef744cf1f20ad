"""Another thread of this process: its name, id and CPU clock, read without any risk to it."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import NamedTuple

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.hidden_thread import HIDDEN

if not extension_unusable():
    from pyprof_agent._native import core

_CPUCLOCK_SCHED_PERTHREAD = 6

UNKNOWN = "<unknown>"
"""Stands for the name of a thread that nobody has made a note of."""


class ThreadFacts(NamedTuple):
    """A thread as `threading` knows it.

    name: UNKNOWN where it has none, or a subclass fails to give it
    native_id: the kernel's id; None while it is starting
    """

    name: str
    native_id: int | None


NO_FACTS = ThreadFacts(UNKNOWN, None)
"""Of a thread that nobody has made a note of."""


def thread_facts() -> dict[int, ThreadFacts]:
    """All threads that somebody has made a note of, by `threading.get_ident()`.

    Not by `threading.enumerate()`: it takes a lock that a thread may hold while it waits for us.
    With the extension nothing of the program's runs for it, and none of its objects is held.
    """
    active = threading._active  # type: ignore[attr-defined]
    if not extension_unusable() and type(active) is dict:
        known = core.thread_facts(active)
        facts = {
            ident: ThreadFacts(UNKNOWN if name is None else name, native_id)
            for ident, name, native_id in known
        }
    else:
        threads = list(active.items())
        facts = {ident: ThreadFacts(_name_of(each), each.native_id) for ident, each in threads}
    hidden = list(HIDDEN.items())
    facts.update({ident: ThreadFacts(each.name, each.native_id) for ident, each in hidden})
    # Up to 3.12 the main thread of a forked child keeps its parent's. On Linux it is the process's.
    ident = threading.main_thread().ident or 0
    main = facts.get(ident)
    if main is not None and sys.platform == "linux":
        facts[ident] = main._replace(native_id=os.getpid())
    return facts


def _name_of(thread: threading.Thread) -> str:
    try:
        return str(thread.name)
    except Exception:
        return UNKNOWN


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
