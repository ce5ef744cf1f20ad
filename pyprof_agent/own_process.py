"""What is known of this process: how much memory it holds, how long it has lived, whether anything
but ourselves is left of it."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.hidden_thread import HIDDEN, ending
from pyprof_agent.pauses import pause

MOMENTS, MOMENT_SECONDS = 5, 0.0001

if not extension_unusable():
    from pyprof_agent._native import core

WORKER_THREAD = "pyprof-agent-worker"
SAMPLER_THREAD = "pyprof-agent-stacks"
SERVER_THREAD = "pyprof-agent-server"
_NATIVE_THREAD = b"pyprof-stacks\n"  # THREAD_NAME of stack_sampler.c


def in_main_interpreter() -> bool:
    """Whether this is the main interpreter of the process, and not a subinterpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # from 3.13 on; before
        with contextlib.suppress(ImportError):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
    return True


def resident_bytes() -> int:
    """The resident set size. Raises OSError where there is no /proc, or no descriptor left."""
    if not extension_unusable():  # of which audit hooks of the program's are not told
        return core.resident_pages() * os.sysconf("SC_PAGESIZE")
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def age_seconds() -> float:
    """Seconds since the process was started. Raises OSError like `resident_bytes`."""
    with open("/proc/self/stat", "rb") as stat:
        after_name = stat.read().rpartition(b")")[2].split()  # the name may hold anything
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def facts() -> dict[str, float]:
    """`resident_bytes` and `seconds` (since its start), as far as they are known."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        found["resident_bytes"] = resident_bytes()
        found["seconds"] = age_seconds()
    return found


def has_ended_but_for_us() -> bool:
    """Whether threads of ours are all that is left of the process, whose main thread is over.

    A process that was forked by another thread than the main one ends with the last of its
    threads, so that must not be ours. False where that cannot be known.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            main_is_over = stat.read().rpartition(b")")[2].startswith(b" Z")  # it stays listed
        if not main_is_over:
            return False
        tasks = os.listdir("/proc/self/task")
        native = [_name_of(task) == _NATIVE_THREAD for task in tasks]
        return len(tasks) == 1 + len(HIDDEN) + sum(native)
    except OSError:
        return False


def in_server() -> bool:
    """Whether the calling thread serves a side port."""
    # Not by current_thread(), which makes an entry where there is none.
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    return _is_server(thread)


def _is_server(thread: object) -> bool:
    # Subclasses may have a name of their own, which is their code.
    return type(thread) is threading.Thread and thread.name == SERVER_THREAD


def forget(thread: threading.Thread | None) -> None:
    """Have `threading` forget a thread that is not in this process: where C code has forked past
    CPython's hooks it still lists those of the parent."""
    listed = threading._active  # type: ignore[attr-defined]
    if thread is not None and listed.get(thread.ident) is thread:
        del listed[thread.ident]


def is_single_threaded_but_for_us() -> bool:
    """Whether the calling thread is the only one of the process that is not ours.

    For a fork: takes no lock, which the thread may hold, and raises no audit event. Waits for a
    moment where there are others: ours may be at their end, which the kernel is to hear of yet.
    """
    for _ in range(MOMENTS):
        if _is_single_threaded_but_for_us():
            return True
        pause(MOMENT_SECONDS)
    return False


def _is_single_threaded_but_for_us() -> bool:
    listed = list(threading._active.values())  # type: ignore[attr-defined]
    ours = sum(map(_is_server, listed))
    try:
        threads = os.stat("/proc/self/task").st_nlink - 2  # a folder for each, and two more links
    except OSError:
        threads = len(listed) + len(HIDDEN)
    return threads == 1 + len(HIDDEN) + ours + ending()


def _name_of(task: str) -> bytes:
    with open(f"/proc/self/task/{task}/comm", "rb") as name:
        return name.read()
